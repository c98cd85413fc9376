package discover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// TestBoundedFile: a file is given up that makes its reader read too much, and an error of a read is not taken for the
// end of a program that isn't Go.
func TestBoundedFile(t *testing.T) {
	s := newWorkers(1, fileWithin)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := &boundedFile{file: file, w: &work{workers: s}, bytes: 6000, time: time.Minute}
	buf := make([]byte, 4096)
	if _, err := b.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	tooMuch := &refusal.Error{Reason: refusal.TooMuch}
	if _, err := b.ReadAt(buf, 0); !errors.Is(err, tooMuch) || !errors.Is(b.failed, tooMuch) || !b.lasts {
		t.Errorf("after too many bytes: %v, kept %v", err, b.failed)
	}
	b = &boundedFile{file: file, w: &work{workers: s}, bytes: 6000, time: 1}
	if _, err := b.ReadAt(buf, 0); !errors.Is(err, tooMuch) || b.lasts {
		t.Errorf("after too long: %v", err)
	}
	file.Close()
	b = &boundedFile{file: file, w: &work{workers: s}, bytes: 6000, time: time.Minute}
	unreadable := &refusal.Error{Reason: refusal.Unreadable}
	if _, err := b.ReadAt(buf, 0); err == nil || !errors.Is(b.failed, unreadable) {
		t.Errorf("after an error: %v, kept %v", err, b.failed)
	}
}

// TestWorkersTakeUsersInTurn: a user with many processes is not served before another one who has one.
func TestWorkersTakeUsersInTurn(t *testing.T) {
	s := newWorkers(1, time.Minute)
	var order []uint32
	go1 := make(chan struct{})
	add := func(uid uint32) {
		w := &work{uid: uid, do: func(*work) { <-go1 }}
		w.ended = func() { order = append(order, uid) }
		s.add(w)
	}
	for range 5 {
		add(1)
	}
	add(2)
	add(3)
	close(go1)
	for s.waits() > 0 {
		s.finish(<-s.done)
	}
	if got := fmt.Sprint(order); got != "[1 1 2 3 1 1 1]" {
		t.Errorf("the users were served in the order %s", got)
	}
}
