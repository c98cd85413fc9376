package process

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tidMap translates thread ids of the process's PID namespace, which the runtime records in m.procid, into those of our
// own. In a container the two differ.
type tidMap struct {
	pid     int
	same    bool // both live in one namespace
	ids     map[int32]int32
	scanned time.Time
	stale   bool
}

func (t *tidMap) init(pid int) error {
	t.pid = pid
	var ours, theirs unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ours); err != nil {
		return err
	}
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/pid", &theirs); err != nil {
		return err
	}
	t.same = ours.Ino == theirs.Ino && ours.Dev == theirs.Dev
	if !t.same {
		t.scan()
	}
	return nil
}

// host translates one id; 0 if it is not known.
func (t *tidMap) host(id int32) int32 {
	if t.same || id == 0 {
		return id
	}
	host, ok := t.ids[id]
	if ok && !t.stale {
		return host
	}
	// A thread that has just ended cannot be found: look again only once in a while.
	if time.Since(t.scanned) > 100*time.Millisecond {
		t.scan()
	}
	return t.ids[id]
}

// renew makes the next translation look at the process's threads again.
func (t *tidMap) renew() { t.stale = true }

// scan reads the ids of all threads from /proc/<pid>/task/*/status.
func (t *tidMap) scan() {
	t.scanned, t.stale = time.Now(), false
	t.ids = make(map[int32]int32)
	dir := "/proc/" + strconv.Itoa(t.pid) + "/task/"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, task := range tasks {
		host, err := strconv.ParseInt(task.Name(), 10, 32)
		if err != nil {
			continue
		}
		status, err := os.ReadFile(dir + task.Name() + "/status")
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(bytes.NewReader(status))
		for lines.Scan() {
			// "NSpid:  4711  17  1": one id for each namespace, from the reader's to the thread's own.
			if list, ok := strings.CutPrefix(lines.Text(), "NSpid:"); ok {
				f := strings.Fields(list)
				if len(f) > 0 {
					if inner, err := strconv.ParseInt(f[len(f)-1], 10, 32); err == nil {
						t.ids[int32(inner)] = int32(host)
					}
				}
				break
			}
		}
	}
}
