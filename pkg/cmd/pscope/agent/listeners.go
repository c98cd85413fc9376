//go:build linux

package agent

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listener is who listens on an address.
type listener struct {
	pid   int // 0: not known
	name  string
	agent bool // it is an agent of P-Scope
}

func (l *listener) String() string { return fmt.Sprintf("%s, pid %d", l.name, l.pid) }

// whoListens says who has a TCP port of this address; nil: nobody. Nothing is connected or bound for that: the kernel
// lists it (Documentation/networking/proc_net_tcp.rst).
func whoListens(addr *net.TCPAddr) *listener {
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open("/proc/net/" + table)
		if err != nil {
			continue
		}
		inode := ""
		for lines := bufio.NewScanner(f); lines.Scan() && inode == ""; {
			inode = listens(lines.Text(), addr)
		}
		f.Close()
		if inode != "" {
			return owner(inode)
		}
	}
	return nil
}

// listens gives the inode of the socket that a line is about, if it listens where addr would.
func listens(line string, addr *net.TCPAddr) string {
	const stateListen = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != stateListen {
		return ""
	}
	at, port, _ := strings.Cut(fields[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, bad := hex.DecodeString(at)
	if err != nil || bad != nil || len(raw)%4 != 0 || int(n) != addr.Port {
		return ""
	}
	for i := 0; i < len(raw); i += 4 { // words in the machine's order; amd64 and arm64 have the same
		slices.Reverse(raw[i : i+4])
	}
	ip := net.IP(raw)
	if ip.IsUnspecified() || len(addr.IP) == 0 || addr.IP.IsUnspecified() || ip.Equal(addr.IP) {
		return fields[9]
	}
	return ""
}

// owner finds the process that has a socket open, among those that may be looked at.
func owner(inode string) *listener {
	want := "socket:[" + inode + "]"
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != want {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
		l := &listener{pid: pid, name: "unknown"}
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if words := strings.Split(string(args), "\x00"); err == nil {
			l.name = fmt.Sprintf("%q", filepath.Base(words[0]))
			l.agent = len(words) > 1 && strings.HasPrefix(filepath.Base(words[0]), "pscope") && words[1] == "agent"
		}
		return l
	}
	return &listener{}
}
