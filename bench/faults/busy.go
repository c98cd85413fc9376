//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/bench/internal/processes"
	"github.com/p-scope/p-scope/pkg/loss"
)

// busyMachine is what a machine does beside the agent.
func busyMachine() []kind {
	return []kind{
		{name: "50 busy processes for 20 s", happen: starved},
		{name: "1,000 processes a second for 10 s, 20 of them Go", happen: execStorm},
	}
}

func starved(dir string) (*outcome, error) {
	return during(dir, storage{}, func(*rig) (string, error) {
		stop, err := processes.Burn(50)
		if err != nil {
			return "", err
		}
		time.Sleep(20 * time.Second)
		stop()
		return "", nil
	})
}

// smallest is a static program that only ends: exec and exit are all that a process of it costs.
func smallest() ([]byte, error) {
	code := map[string][]byte{
		// xor edi, edi; mov eax, 231 (exit_group); syscall
		"amd64": {0x31, 0xff, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05},
		// mov x0, 0; mov x8, 94; svc 0
		"arm64": {0x00, 0x00, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4},
	}[runtime.GOARCH]
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	if code == nil {
		return nil, fmt.Errorf("%w: no program is written for %s", errNotHere, runtime.GOARCH)
	}
	const headers, base = 64 + 56, 0x400000
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a buffer takes everything
	le([]uint16{2, machine})
	le(uint32(1))
	le([]uint64{base + headers, 64, 0})
	le(uint32(0))
	le([]uint16{64, 56, 1, 64, 0, 0})
	size := uint64(headers + len(code))
	le([]uint32{1, 5}) // to be loaded, readable and executable
	le([]uint64{0, base, base, size, size, 4096})
	b.Write(code)
	return b.Bytes(), nil
}

// spawnWord makes this program start others as fast as it is told to: see spawn.
const spawnWord = "spawn"

// spawn is a helper process. It starts FILE with arguments RATE times a second for a time, waits for none, and prints
// how many.
func spawn(args []string) error {
	fs := flag.NewFlagSet(spawnWord, flag.ContinueOnError)
	rate := fs.Float64("rate", 1, "a second")
	long := fs.Duration("for", time.Second, "how long")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("which program?")
	}
	signal.Ignore(syscall.SIGCHLD) // then the kernel forgets children by itself
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}
	started := 0
	begun := time.Now()
	for time.Since(begun) < *long {
		if _, err := syscall.ForkExec(fs.Arg(0), fs.Args(), attr); err == nil {
			started++
		}
		if ahead := time.Duration(float64(started)/(*rate)*float64(time.Second)) - time.Since(begun); ahead > 0 {
			time.Sleep(ahead)
		}
	}
	fmt.Println(started)
	return nil
}

// execStorm starts processes from five helpers, so that none waits for another; one of them starts those of Go.
func execStorm(dir string) (*outcome, error) {
	program, err := smallest()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "smallest")
	if err := os.WriteFile(file, program, 0o755); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return during(dir, storage{}, func(r *rig) (string, error) {
		const long = 10 * time.Second
		before := r.losses()
		var helpers []*exec.Cmd
		var said []*strings.Builder
		start := func(rate string, what ...string) error {
			c := exec.Command(self, append([]string{spawnWord, "-rate", rate, "-for", long.String()}, what...)...)
			out := &strings.Builder{}
			c.Stdout, c.Stderr = out, os.Stderr
			helpers, said = append(helpers, c), append(said, out)
			return c.Start()
		}
		err := start("20", filepath.Join(dir, "workload"), "-procs", "2", "-warm", "0s", "-run", "500ms", "sleepers")
		for range 4 {
			err = errors.Join(err, start("245", file))
		}
		total, ofGo := 0, 0
		for i, c := range helpers {
			if c.Process == nil {
				continue
			}
			err = errors.Join(err, c.Wait())
			n, _ := strconv.Atoi(strings.TrimSpace(said[i].String()))
			total += n
			if i == 0 {
				ofGo = n
			}
		}
		missed := r.losses()[loss.EndedBeforeObserved] - before[loss.EndedBeforeObserved]
		return fmt.Sprintf("%.0f processes a second came about, %.0f of them Go, of which %.0f ended unseen",
			float64(total)/long.Seconds(),
			float64(ofGo)/long.Seconds(), missed), err
	})
}
