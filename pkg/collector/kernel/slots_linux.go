package kernel

import (
	"time"

	"github.com/p-scope/p-scope/pkg/collector/share"
)

// quarantine is what is given back a while after its target ended: a program that still runs on some CPU must not write
// into a record that has become another target's.
type quarantine struct {
	since  time.Time
	target uint32
	chunks []uint16
}

// quarantineFor is how long that while is.
const quarantineFor = 2 * time.Second

// TakeTarget gives an unused index in targets, to a process of a user that has so many threads.
func (k *Side) TakeTarget(uid uint32, threads int) (uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recycle()
	if err := k.room.Ask(uid, share.Targets, 1, len(k.freeTargets)); err != nil {
		return 0, err
	}
	k.room.Take(uid, share.Targets, 1)
	k.room.Take(uid, share.Threads, threads) // until they are counted
	i := k.freeTargets[len(k.freeTargets)-1]
	k.freeTargets = k.freeTargets[:len(k.freeTargets)-1]
	return i, nil
}

// TakeChunk gives an unused chunk of records to a process of a user, which admit has let in.
func (k *Side) TakeChunk(uid uint32) (uint16, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recycle()
	if len(k.freeChunks) == 0 {
		return 0, share.Full(share.Ps, 1)
	}
	k.room.Take(uid, share.Ps, 1)
	c := k.freeChunks[len(k.freeChunks)-1]
	k.freeChunks = k.freeChunks[:len(k.freeChunks)-1]
	return c, nil
}

// GiveBack returns the slots of a user's target, to be used again after a while.
func (k *Side) GiveBack(uid, target uint32, chunks []uint16) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.room.Take(uid, share.Targets, -1)
	k.room.Take(uid, share.Ps, -len(chunks))
	k.quarantined = append(k.quarantined, quarantine{time.Now(), target, chunks})
}

// recycle makes free again what has been in quarantine for long enough.
func (k *Side) recycle() {
	for len(k.quarantined) > 0 && time.Since(k.quarantined[0].since) > quarantineFor {
		// The kernel side knows a thread as one of the target with this index: none may be left from the one before.
		k.RemoveThreads(k.quarantined[0].target)
		k.freeTargets = append(k.freeTargets, k.quarantined[0].target)
		k.freeChunks = append(k.freeChunks, k.quarantined[0].chunks...)
		k.quarantined = k.quarantined[1:]
	}
}

// Admit says whether the process of a user may be observed, as far as room is concerned.
func (k *Side) Admit(uid uint32, of share.Kind, n int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recycle()
	free := 0
	switch of {
	case share.Targets:
		free = len(k.freeTargets)
	case share.Ps:
		free = len(k.freeChunks)
	case share.Threads:
		free = k.room.Free(of)
	}
	if err := k.room.Ask(uid, of, n, free); err != nil {
		return err
	}
	if of == share.Threads && k.room.TakesTooManyThreads(uid, n) {
		return share.TooManyThreads(n)
	}
	return nil
}

// LargestUser gives who has most of a kind, how much, and how much another user has, and how much there is in all.
func (k *Side) LargestUser(of share.Kind, uid uint32) (largest uint32, most, has, total int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	largest, most = k.room.Largest(of)
	return largest, most, k.room.Has(uid, of), k.room.Total[of]
}

// SetThreads notes how many threads each user's processes have, and says whether the table is nearly full.
func (k *Side) SetThreads(has map[uint32]int) (crowded bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.room.SetThreads(has)
	return k.room.Crowded()
}

// Chunks is how many chunks of records so many Ps take.
func Chunks(ps int) int { return (ps + ChunkPs - 1) / ChunkPs }
