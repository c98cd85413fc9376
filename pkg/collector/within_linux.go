package collector

import (
	"time"

	gorefusal "github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// within does something that may wait in the kernel for a file that does not answer, aside, and gives it up after a
// while. What comes of it later goes to late.
func within[T any](c *collect, most time.Duration, do func() (T, error), late func(T)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done, left := make(chan outcome), make(chan struct{})
	go func() {
		v, err := do()
		select {
		case done <- outcome{v, err}:
		case <-left:
			late(v)
		}
	}()
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	select {
	case o := <-done:
		return o.v, o.err
	case <-timeout.C:
		close(left)
		c.hung.Add(1)
		var none T
		return none, gorefusal.New(gorefusal.NoAnswer, nil, "the program's file did not answer within %v", most)
	}
}
