//go:build linux

// Package demo is a Go workload with a known, repeatable script of phases. What P-Scope shows of it can be checked
// against the script.
package demo

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// options are the demo's flags.
type options struct {
	phases  []phase
	seconds time.Duration // of every phase but d
	dHold   time.Duration // of phase d
	once    bool
	procs   int
	listen  string
}

// event is one line of the demo's standard output. Times are Unix nanoseconds.
type event struct {
	Time       int64    `json:"time_unix_nano"`
	Event      string   `json:"event"` // script, begin, end, skip, done
	Phase      string   `json:"phase,omitempty"`
	Round      int      `json:"round,omitempty"`
	Seconds    float64  `json:"seconds,omitempty"` // planned length
	Expect     string   `json:"expect,omitempty"`  // what an observer should see
	Reason     string   `json:"reason,omitempty"`  // why the phase is skipped
	PID        int      `json:"pid,omitempty"`
	GOMAXPROCS int      `json:"gomaxprocs,omitempty"`
	Phases     []string `json:"phases,omitempty"`
	TID        int      `json:"tid,omitempty"` // phase d: the thread that waits in D
}

// Run is the subcommand "demo".
func Run(ctx context.Context, args []string) (int, error) {
	if len(args) > 0 && args[0] == serverArg {
		return serveSlowFile(args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return 2, err
	}
	runtime.GOMAXPROCS(o.procs)
	d := &driver{o: o, out: os.Stdout}
	if o.listen != "" {
		ln, err := net.Listen("tcp", o.listen)
		if err != nil {
			return 1, fmt.Errorf("can't listen on %s: %w; choose another address with --listen, or leave it out",
				o.listen, err)
		}
		srv := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = srv.Serve(ln) }()
		defer func() { _ = srv.Close() }()
		fmt.Fprintf(os.Stderr, "pscope demo: http://%s/phase says which phase is on\n", ln.Addr())
	}
	return 0, d.run(ctx)
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("pscope demo", flag.ContinueOnError)
	names := fs.String("phases", strings.Join(defaultPhases(), ","), "phases in their order, separated by commas")
	seconds := fs.Float64("phase-seconds", 12, "length of every phase but d")
	dSeconds := fs.Float64("d-seconds", 30, fmt.Sprintf("length of phase d, at most %.0f; an alert that waits 2 "+
		"minutes needs 150", maxHold.Seconds()))
	fs.BoolVar(&o.once, "once", false, "play the script once instead of for ever")
	fs.IntVar(&o.procs, "gomaxprocs", 4, "number of Ps")
	fs.StringVar(&o.listen, "listen", "", "address of an HTTP server with /phase and a small page, for example "+
		"127.0.0.1:9480")
	fs.Usage = func() {
		w := fs.Output()
		fmt.Fprintln(w, "pscope demo plays a script of phases, each with a known picture, and logs every change as a "+
			"line of JSON.\n\nPhases:")
		for _, p := range allPhases() {
			fmt.Fprintf(w, "  %-10s %s\n", p.name, p.expect)
		}
		fmt.Fprintln(w, "\nFlags:")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; all settings are flags, see --help", fs.Arg(0))
	}
	if *seconds <= 0 || *dSeconds <= 0 {
		return o, fmt.Errorf("a phase must be longer than 0 s; set --phase-seconds and --d-seconds above 0")
	}
	if o.procs < 1 || o.procs > 1024 {
		return o, fmt.Errorf("--gomaxprocs is %d; it must be from 1 to 1024", o.procs)
	}
	o.seconds = time.Duration(*seconds * float64(time.Second))
	o.dHold = time.Duration(*dSeconds * float64(time.Second))
	if o.dHold > maxHold {
		return o, fmt.Errorf("--d-seconds is %g; at most %.0f, so that nothing stays in D for longer", *dSeconds,
			maxHold.Seconds())
	}
	byName := map[string]phase{}
	for _, p := range allPhases() {
		byName[p.name] = p
	}
	for _, n := range strings.Split(*names, ",") {
		p, ok := byName[strings.TrimSpace(n)]
		if !ok {
			return o, fmt.Errorf("there is no phase %q; choose from %s", n, strings.Join(phaseNames(allPhases()), ", "))
		}
		o.phases = append(o.phases, p)
	}
	return o, nil
}

// driver plays the script.
type driver struct {
	o   options
	out io.Writer
	now atomic.Pointer[event] // the event that began the present phase
	hit atomic.Uint64         // requests to the small page
}

func (d *driver) log(e event) {
	e.Time = time.Now().UnixNano()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // an event holds nothing that can't be marshalled
	}
	_, _ = d.out.Write(append(line, '\n')) // one write a line; a closed stdout must not end the workload
}

func (d *driver) run(ctx context.Context) error {
	var slow *slowFile
	var noSlow string // why there is no slow file
	if d.wants("d") || d.wants("dcall") {
		switch sf, err := startSlowFile(); {
		case d.o.procs < 2:
			noSlow = "phase d needs a second P to go on with; run with --gomaxprocs 2 or more"
			if err == nil {
				sf.stop()
			}
		case err != nil:
			noSlow = err.Error()
		default:
			slow = sf
			defer slow.stop()
		}
	}
	d.log(event{Event: "script", PID: os.Getpid(), GOMAXPROCS: d.o.procs, Phases: phaseNames(d.o.phases),
		Seconds: d.o.seconds.Seconds()})
	for round := 1; ; round++ {
		for _, p := range d.o.phases {
			length := d.o.seconds
			if p.run == nil {
				length = d.o.dHold
				if slow == nil {
					d.log(event{Event: "skip", Phase: p.name, Round: round, Reason: noSlow})
					fmt.Fprintln(os.Stderr, "pscope demo: phase d is skipped:", noSlow)
					if len(d.o.phases) == 1 {
						return fmt.Errorf("nothing to do: %s", noSlow)
					}
					continue
				}
			}
			begin := event{Event: "begin", Phase: p.name, Round: round, Seconds: length.Seconds(), Expect: p.expect,
				PID: os.Getpid(), GOMAXPROCS: d.o.procs, Time: time.Now().UnixNano()}
			d.now.Store(&begin)
			d.log(begin)
			phaseCtx, cancel := context.WithTimeout(ctx, length)
			var err error
			if p.run == nil {
				err = d.runD(phaseCtx, slow, length, round, p.name)
			} else {
				p.run(phaseCtx, d.o.procs)
				<-phaseCtx.Done()
			}
			cancel()
			d.now.Store(nil)
			end := event{Event: "end", Phase: p.name, Round: round}
			if err != nil {
				end.Reason = err.Error()
			}
			d.log(end)
			if ctx.Err() != nil {
				return nil
			}
			// What one phase allocated must not make the collector run in the next.
			debug.FreeOSMemory()
		}
		if d.o.once {
			d.log(event{Event: "done"})
			return nil
		}
	}
}

func (d *driver) wants(name string) bool {
	for _, p := range d.o.phases {
		if p.name == name {
			return true
		}
	}
	return false
}

// handler serves /phase (the event that began the present phase) and a small page for load generators.
func (d *driver) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /phase", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := d.now.Load()
		if e == nil {
			e = &event{Event: "between"}
		}
		_ = json.NewEncoder(w).Encode(e)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		n := d.hit.Add(1)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "P-Scope demo, request %d, work %x\n", n, work(20000))
	})
	return mux
}
