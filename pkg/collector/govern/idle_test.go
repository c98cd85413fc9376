package govern

import "testing"

func TestSkips(t *testing.T) {
	var s Skips
	for range maxUnread {
		if !s.MayLook(1) || !s.Skip(1, true) || !s.Quiet {
			t.Fatalf("nothing has changed and something is read: %+v", s)
		}
	}
	if s.MayLook(1); s.Skip(1, true) || s.Quiet {
		t.Errorf("no look after a second: %+v", s)
	}
	if n := s.Looked(1); n != maxUnread {
		t.Errorf("%d periods were not counted, want %d", n, maxUnread)
	}
	if s.MayLook(2); s.Skip(2, false) || s.Unread != 0 {
		t.Errorf("something has changed and nothing is read: %+v", s)
	}
	for s.MayLook(1) {
		if !s.Skip(1, true) {
			s.Looked(1)
		}
	}
	if s.Skipped != maxSkipped {
		t.Errorf("%d snapshots were left out in a row, want %d", s.Skipped, maxSkipped)
	}
	s.Snapshot()
	if !s.MayLook(1) {
		t.Error("a snapshot is due just after one")
	}
	if s.Require(); s.MayLook(1) {
		t.Error("a snapshot that is required is not due")
	}
}
