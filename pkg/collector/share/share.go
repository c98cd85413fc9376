// Package share divides the room in the kernel's tables between the users of a host.
//
// The tables have a fixed size, and nobody may take all of it from the others. So room is shared by user: as long as
// there is some, anybody may take it. Where there is none, a process of a user who has less takes the place of the
// newest process of the one who has most, if that one still has as much afterwards. What was freed is kept for whoever
// waits and has least. A user is the real one of a process; who may use several (subuid(5)) counts as several.
package share

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kind is a kind of room.
type Kind int

// The kinds: places in the tables of targets, of Ps (in chunks) and of threads.
const (
	Targets Kind = iota
	Ps
	Threads
	Kinds // how many there are
)

// keptFor is for how long room is kept for a user who was refused: its processes are looked at again every second, and
// what another one gives up is free only after a while.
const keptFor = 10 * time.Second

// Room is who has what. Its user guards it.
type Room struct {
	Total, Used [Kinds]int
	users       map[uint32]*user
}

type user struct {
	has   [Kinds]int
	waits [Kinds]time.Time // when it was refused last, if it waits
	wants [Kinds]int       // how much it was refused then
}

// NewRoom is that of tables of these sizes, of which nobody has anything.
func NewRoom(targets, chunks, threads int) Room {
	return Room{Total: [Kinds]int{targets, chunks, threads}, users: map[uint32]*user{}}
}

// Free is how much of a kind nobody has.
func (r *Room) Free(of Kind) int { return r.Total[of] - r.Used[of] }

// Has is how much of a kind a user has.
func (r *Room) Has(uid uint32, of Kind) int {
	if u := r.users[uid]; u != nil {
		return u.has[of]
	}
	return 0
}

func (r *Room) user(uid uint32) *user {
	u := r.users[uid]
	if u == nil {
		u = &user{}
		r.users[uid] = u
	}
	return u
}

// Ask says whether a user's process may take n of a kind; free is how much there is.
func (r *Room) Ask(uid uint32, of Kind, n, free int) error {
	u, now := r.user(uid), time.Now()
	if free < n {
		r.wait(u, of, n, now)
		return Full(of, n)
	}
	for other, o := range r.users {
		if other != uid && o.waiting(of, now) && o.has[of]+o.wants[of] <= u.has[of] {
			r.wait(u, of, n, now)
			return kept(of, n, uid)
		}
	}
	return nil
}

// wait notes that a user waits for n of a kind: for the least of what its processes wait for, and not for what nobody
// can be given.
func (r *Room) wait(u *user, of Kind, n int, now time.Time) {
	if n <= r.Total[of] && (n <= u.wants[of] || !u.waiting(of, now)) {
		u.waits[of], u.wants[of] = now, n
	}
}

// waiting says whether room is kept for a user.
func (u *user) waiting(of Kind, now time.Time) bool { return now.Sub(u.waits[of]) < keptFor }

// Take notes that a user's process has taken n of a kind, or given them back if n is negative.
func (r *Room) Take(uid uint32, of Kind, n int) {
	r.Used[of] += n
	u := r.user(uid)
	if u.has[of] += n; n > 0 {
		u.waits[of] = time.Time{}
	}
}

// SetThreads notes how many threads each user's processes have.
func (r *Room) SetThreads(has map[uint32]int) {
	r.Used[Threads] = 0
	for uid, n := range has {
		r.user(uid)
		r.Used[Threads] += n
	}
	for uid, u := range r.users {
		u.has[Threads] = has[uid]
		waited := slices.MaxFunc(u.waits[:], time.Time.Compare)
		if u.has == [Kinds]int{} && time.Since(waited) > keptFor {
			delete(r.users, uid)
		}
	}
}

// Largest is the user who has most of a kind, and how much.
func (r *Room) Largest(of Kind) (uid uint32, has int) {
	for other, u := range r.users {
		if u.has[of] > has || u.has[of] == has && other < uid {
			uid, has = other, u.has[of]
		}
	}
	return uid, has
}

// ErrNoRoom is what every error for lack of room is.
var ErrNoRoom = errors.New("no room")

// Error is what an observation fails with that can't have the room it needs. It is ErrNoRoom: to try again at once is
// of no use.
type Error struct {
	Sentence string
	Kind     Kind
	Needed   int  // how much of that kind
	passes   bool // when others end
}

func (e *Error) Error() string      { return e.Sentence }
func (*Error) Is(target error) bool { return target == ErrNoRoom }

// roomWords are what each kind is called, and what makes more of it.
var roomWords = [Kinds]struct{ table, more string }{
	Targets: {"the table of targets", ""},
	Ps:      {"the table of Ps", "raise --max-ps, or "},
	Threads: {"the table of threads", "raise --max-threads, or "},
}

func triedAgain(of Kind) string {
	return "it is tried again when there is room; " + roomWords[of].more + "exclude processes with --exclude"
}

// Full says that a table is full; it may pass.
func Full(of Kind, n int) error {
	return &Error{fmt.Sprintf("%s is full: %s", roomWords[of].table, triedAgain(of)), of, n, true}
}

// kept says that what is left is for others.
func kept(of Kind, n int, uid uint32) error {
	return &Error{fmt.Sprintf("%s is nearly full, and what is left is kept for users who have less of it than user "+
		"%d: %s",
		roomWords[of].table, uid, triedAgain(of)), of, n, true}
}

// GivenAway says that another one got its room.
func GivenAway(of Kind) error {
	return &Error{fmt.Sprintf("%s is full, and its room was given to another user's process, because its own user had "+
		"more of it: %s", roomWords[of].table, triedAgain(of)), of, 0, true}
}

// TooManyThreads says that a process had more threads than leave room for others.
func TooManyThreads(n int) error {
	return &Error{fmt.Sprintf("the table of threads is nearly full, and its %d threads take more than a fair share of "+
		"it: %s", n, triedAgain(Threads)), Threads, n, true}
}

// MayPass says whether an error may pass when other processes end.
func MayPass(err error) *Error {
	if e, ok := err.(*Error); ok && e.passes {
		return e
	}
	return nil
}

// crowdedFrom is from how much of the table of threads on one that takes more than its share is let go.
const crowdedFrom = 7.0 / 8

// Crowded says whether so little is left of the table of threads that processes with too many are let go.
func (r *Room) Crowded() bool {
	return float64(r.Used[Threads]) >= crowdedFrom*float64(r.Total[Threads])
}

// TakesTooManyThreads says whether a user's process with n threads would be let go again as soon as it is taken in:
// when the table is crowded, the largest process of the user who has most ends.
func (r *Room) TakesTooManyThreads(uid uint32, n int) bool {
	used, total := r.Used[Threads]+n, r.Total[Threads]
	if float64(used) < crowdedFrom*float64(total) {
		return false
	}
	has, users := r.user(uid).has[Threads]+n, 1
	for other, u := range r.users {
		if other == uid || u.has[Targets] == 0 {
			continue
		}
		if users++; u.has[Threads] > has {
			return false // that user's would be
		}
	}
	return users > 1 && has > total/users || r.Used[Targets] > 0 && n > total/2
}
