package collector

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The tables in the kernel have a fixed size, and nobody may take all of it from the others. So room is shared by user:
// as long as there is some, anybody may take it. Where there is none, a process of a user who has less takes the place
// of the newest process of the one who has most, if that one still has as much afterwards. What was freed is kept for
// whoever waits and has least. A user is the real one of a process; who may use several (subuid(5)) counts as several.

// roomOf is a kind of room.
type roomOf int

const (
	roomForTargets roomOf = iota
	roomForPs             // in chunks
	roomForThreads
	roomKinds
)

// keptFor is for how long room is kept for a user who was refused: its processes are looked at again every second, and
// what another one gives up rests for restFor first.
const keptFor = 10 * time.Second

// room is who has what. Its user guards it.
type room struct {
	total, used [roomKinds]int
	users       map[uint32]*userRoom
}

type userRoom struct {
	has   [roomKinds]int
	waits [roomKinds]time.Time // when it was refused last, if it waits
	wants [roomKinds]int       // how much it was refused then
}

func newRoom(targets, chunks, threads int) room {
	return room{total: [roomKinds]int{targets, chunks, threads}, users: map[uint32]*userRoom{}}
}

// free is how much of a kind nobody has.
func (r *room) free(of roomOf) int { return r.total[of] - r.used[of] }

// has is how much of a kind a user has.
func (r *room) has(uid uint32, of roomOf) int {
	if u := r.users[uid]; u != nil {
		return u.has[of]
	}
	return 0
}

func (r *room) user(uid uint32) *userRoom {
	u := r.users[uid]
	if u == nil {
		u = &userRoom{}
		r.users[uid] = u
	}
	return u
}

// ask says whether a user's process may take n of a kind; free is how much there is.
func (r *room) ask(uid uint32, of roomOf, n, free int) error {
	u, now := r.user(uid), time.Now()
	if free < n {
		r.wait(u, of, n, now)
		return noRoom(of, n)
	}
	for other, o := range r.users {
		if other != uid && o.waiting(of, now) && o.has[of]+o.wants[of] <= u.has[of] {
			r.wait(u, of, n, now)
			return keptRoom(of, n, uid)
		}
	}
	return nil
}

// wait notes that a user waits for n of a kind: for the least of what its processes wait for, and not for what nobody
// can be given.
func (r *room) wait(u *userRoom, of roomOf, n int, now time.Time) {
	if n <= r.total[of] && (n <= u.wants[of] || !u.waiting(of, now)) {
		u.waits[of], u.wants[of] = now, n
	}
}

// waiting says whether room is kept for a user.
func (u *userRoom) waiting(of roomOf, now time.Time) bool { return now.Sub(u.waits[of]) < keptFor }

// take notes that a user's process has taken n of a kind, or given them back if n is negative.
func (r *room) take(uid uint32, of roomOf, n int) {
	r.used[of] += n
	u := r.user(uid)
	if u.has[of] += n; n > 0 {
		u.waits[of] = time.Time{}
	}
}

// setThreads notes how many threads each user's processes have.
func (r *room) setThreads(has map[uint32]int) {
	r.used[roomForThreads] = 0
	for uid, n := range has {
		r.user(uid)
		r.used[roomForThreads] += n
	}
	for uid, u := range r.users {
		u.has[roomForThreads] = has[uid]
		waited := slices.MaxFunc(u.waits[:], time.Time.Compare)
		if u.has == [roomKinds]int{} && time.Since(waited) > keptFor {
			delete(r.users, uid)
		}
	}
}

// most is the user who has most of a kind, and how much.
func (r *room) most(of roomOf) (uid uint32, has int) {
	for other, u := range r.users {
		if u.has[of] > has || u.has[of] == has && other < uid {
			uid, has = other, u.has[of]
		}
	}
	return uid, has
}

// errRoom is what every error for lack of room is.
var errRoom = errors.New("no room")

// roomError is what an observation fails with that can't have the room it needs. It is errRoom: to try again at once is
// of no use.
type roomError struct {
	sentence string
	of       roomOf
	n        int  // that would be needed
	passes   bool // when others end
}

func (e *roomError) Error() string      { return e.sentence }
func (*roomError) Is(target error) bool { return target == errRoom }

// roomWords are what each kind is called, and what makes more of it.
var roomWords = [roomKinds]struct{ table, more string }{
	roomForTargets: {"the table of targets", ""},
	roomForPs:      {"the table of Ps", "raise --max-ps, or "},
	roomForThreads: {"the table of threads", "raise --max-threads, or "},
}

func triedAgain(of roomOf) string {
	return "it is tried again when there is room; " + roomWords[of].more + "exclude processes with --exclude"
}

// noRoom says that a table is full; it may pass.
func noRoom(of roomOf, n int) error {
	return &roomError{fmt.Sprintf("%s is full: %s", roomWords[of].table, triedAgain(of)), of, n, true}
}

// keptRoom says that what is left is for others.
func keptRoom(of roomOf, n int, uid uint32) error {
	return &roomError{fmt.Sprintf("%s is nearly full, and what is left is kept for users who have less of it than user %d: %s",
		roomWords[of].table, uid, triedAgain(of)), of, n, true}
}

// gaveRoom says that another one got its room.
func gaveRoom(of roomOf) error {
	return &roomError{fmt.Sprintf("%s is full, and its room was given to another user's process, because its own user had "+
		"more of it: %s", roomWords[of].table, triedAgain(of)), of, 0, true}
}

// tooManyThreads says that a process had more threads than leave room for others.
func tooManyThreads(n int) error {
	return &roomError{fmt.Sprintf("the table of threads is nearly full, and its %d threads take more than a fair share of "+
		"it: %s", n, triedAgain(roomForThreads)), roomForThreads, n, true}
}

// waitsForRoom says whether an error may pass when other processes end.
func waitsForRoom(err error) *roomError {
	if e, ok := err.(*roomError); ok && e.passes {
		return e
	}
	return nil
}

// crowdedFrom is from how much of the table of threads on one that takes more than its share is let go.
const crowdedFrom = 7.0 / 8

// crowded says whether so little is left of the table of threads that processes with too many are let go.
func (r *room) crowded() bool {
	return float64(r.used[roomForThreads]) >= crowdedFrom*float64(r.total[roomForThreads])
}

// wouldBeLetGo says whether a user's process with n threads would be let go again as soon as it is taken in: by the
// rule of shareThreads.
func (r *room) wouldBeLetGo(uid uint32, n int) bool {
	used, total := r.used[roomForThreads]+n, r.total[roomForThreads]
	if float64(used) < crowdedFrom*float64(total) {
		return false
	}
	has, users := r.user(uid).has[roomForThreads]+n, 1
	for other, u := range r.users {
		if other == uid || u.has[roomForTargets] == 0 {
			continue
		}
		if users++; u.has[roomForThreads] > has {
			return false // that user's would be
		}
	}
	return users > 1 && has > total/users || r.used[roomForTargets] > 0 && n > total/2
}
