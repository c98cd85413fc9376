package govern

// Most targets have nothing to do most of the time, and then a snapshot shows nothing that is not known already. As
// long as nothing of a target has changed, nothing is read of it. Where something has but it is idle again, one look at
// the runtime's own count of idle Ps is enough.

const (
	maxUnread  = 9  // periods in a row in which nothing is read: one look a second remains
	maxSkipped = 49 // periods in a row without a snapshot, however often a look has shown that none is needed
)

// Skips counts the snapshots of an idle target that were left out.
type Skips struct {
	Skipped int  // periods since the last snapshot
	Unread  int  // periods since the last look
	Quiet   bool // nothing was read in the last period
}

// MayLook says whether a look at an idle target is enough, n periods after the last time; else a snapshot is due.
func (s *Skips) MayLook(n int) bool {
	s.Quiet = false
	return s.Skipped+n <= maxSkipped
}

// Skip says whether not even a look is needed, because nothing has changed, and counts that.
func (s *Skips) Skip(n int, unchanged bool) bool {
	if !unchanged || s.Unread+n > maxUnread {
		return false
	}
	s.Skipped, s.Unread, s.Quiet = s.Skipped+n, s.Unread+n, true
	return true
}

// Looked counts a look, n periods after the last time, and gives the periods in which nothing was read before it.
func (s *Skips) Looked(n int) (unread int) {
	unread = s.Unread
	s.Skipped, s.Unread = s.Skipped+n, 0
	return unread
}

// Snapshot counts a snapshot, and gives the periods in which nothing was read before it.
func (s *Skips) Snapshot() (unread int) {
	unread = s.Unread
	s.Skipped, s.Unread = 0, 0
	return unread
}

// Require makes a snapshot be due.
func (s *Skips) Require() { s.Skipped = maxSkipped }
