package metrics

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/p-scope/p-scope/pkg/cpufreq"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Snapshot is all that is known at one moment.
type Snapshot struct {
	// Views of the observed targets.
	Views []pstate.TargetView
	// Targets that were found, refused ones included; those without a view have pscope_target_info alone.
	Targets []pstate.Target
	// Mode of the agent: ebpf or snapshot.
	Mode string
	// Lost counts what the agent lost and can't put down to a target, by reason.
	Lost map[string]uint64
	// Self is what the agent uses of the machine; see the function Self.
	Self map[string]float64
	CPUs []cpufreq.CPU
}

// pair is a label.
type pair struct{ name, value string }

// slot is one series as its reader keeps it.
type slot struct {
	built  bool
	round  uint64 // the last round in which it had a value
	labels []pair // until the reader has built what it needs from them

	store storeSlot
	text  textSlot
}

// labelled is what a series can hang from: a target, or one P of it.
type labelled interface{ base() []pair }

type targetSlots struct {
	round  uint64
	target pstate.Target
	labels []pair // host and the target's own

	ps []*pSlots // in the order of the view

	globalRunqSeen looks

	globalRunq, gomaxprocs, targetInfo *slot
	governor, probeCost, observed      *slot
	paused, watched, knownStarts       *slot
	stops, lost, reconciled, probe     map[string]*slot
	limit, throttled, throttledPeriods map[string]*slot // by the group that sets the quota
	periods                            map[string]*slot
	pressure, unreadable               map[string]*slot
}

func (t *targetSlots) base() []pair { return t.labels }

type pSlots struct {
	p      int32
	labels []pair // the target's and p

	target *targetSlots

	state           [pstate.NumStates]*slot
	thread          [pstate.NumThreadStates]*slot
	status          [5]*slot
	transitions     map[uint16]*slot
	uninterruptible *slot
	runq, runqHist  *slot
	runqSeen        looks
	schedTicks      *slot
	syscalls        *slot
	wakeWait        *slot
	stopTime        *slot
	migrations      *slot
}

func (p *pSlots) base() []pair { return p.labels }

// reader takes samples.
type reader interface {
	// family announces the family of the samples that follow.
	family(f *Family)
	float(s *slot, v float64)
	hist(s *slot, h hist)
}

// set is one reader's cache of series.
type set struct {
	host, version, goVersion, goArch string
	atLeast                          time.Duration // over which a mean is taken: see looks

	round   uint64
	targets map[pstate.Key]*targetSlots
	agent   map[string]*slot
	all     []*slot
}

func newSet(host, version string) set {
	return set{
		host: host, version: version, goVersion: runtime.Version(), goArch: runtime.GOARCH,
		targets: make(map[pstate.Key]*targetSlots), agent: make(map[string]*slot),
	}
}

// walk is one pass over all families.
type walk struct {
	set *set
	fam *Family
	to  reader
}

// run hands every sample of the snapshot to the reader, family by family.
func (s *set) run(snap *Snapshot, to reader) {
	s.round++
	slots := make([]*targetSlots, len(snap.Views))
	for i := range snap.Views {
		slots[i] = s.slotsOf(&snap.Views[i].Target, snap.Views[i].Ps)
	}
	var unseen []*pstate.Target
	for i := range snap.Targets {
		t := &snap.Targets[i]
		if ts, ok := s.targets[t.Key]; !ok || ts.round != s.round {
			unseen = append(unseen, t)
		}
	}
	unseenSlots := make([]*targetSlots, len(unseen))
	for i, t := range unseen {
		unseenSlots[i] = s.slotsOf(t, nil)
	}
	w := &walk{set: s, to: to}
	for i := range families {
		f := &families[i]
		w.fam = &f.Family
		to.family(w.fam)
		if f.agent != nil {
			f.agent(w, snap)
		}
		if f.target != nil {
			for j := range snap.Views {
				f.target(w, &snap.Views[j], slots[j])
			}
			if w.fam.Name == infoName {
				for j, t := range unseen {
					w.info(unseenSlots[j], t)
				}
			}
		}
		if f.p != nil {
			for j := range snap.Views {
				v := &snap.Views[j]
				for k := range v.Ps {
					f.p(w, v, &v.Ps[k], slots[j].ps[k])
				}
			}
		}
	}
	for k, t := range s.targets {
		if t.round != s.round {
			delete(s.targets, k)
		}
	}
}

// gone takes the series that had no value in the last round out of the cache and gives them to forget.
func (s *set) gone(forget func(*slot)) {
	live := s.all[:0]
	for _, sl := range s.all {
		if sl.round == s.round {
			live = append(live, sl)
			continue
		}
		forget(sl)
		// Its owner may outlive it, as a run queue whose depth is not known for a while: then it is built anew.
		sl.built, sl.store, sl.text = false, storeSlot{}, textSlot{}
	}
	clear(s.all[len(live):])
	s.all = live
}

const infoName = "pscope_target_info"

func (s *set) slotsOf(t *pstate.Target, ps []pstate.PView) *targetSlots {
	ts := s.targets[t.Key]
	if ts == nil || ts.target != *t {
		labels := targetLabels(s.host, t)
		if ts != nil && slices.Equal(labels, ts.labels) {
			// The way it is observed has changed, which only one series tells of.
			ts.target, ts.targetInfo = *t, nil
		} else {
			// A target that changes (its pod becomes known) is a new set of series.
			ts = &targetSlots{target: *t, labels: labels}
			s.targets[t.Key] = ts
		}
	}
	ts.round = s.round
	for i := range ps {
		if i < len(ts.ps) && ts.ps[i].p == ps[i].P {
			continue
		}
		p := &pSlots{p: ps[i].P, target: ts, labels: with(ts.labels, pair{"p", strconv.Itoa(int(ps[i].P))})}
		if i < len(ts.ps) {
			ts.ps[i] = p
		} else {
			ts.ps = append(ts.ps, p)
		}
	}
	return ts
}

func targetLabels(host string, t *pstate.Target) []pair {
	ls := []pair{{"host", host}}
	m := t.Labels()
	for _, name := range sorted(m) {
		ls = append(ls, pair{name, m[name]})
	}
	return ls
}

func with(base []pair, more ...pair) []pair {
	return append(append(make([]pair, 0, len(base)+len(more)), base...), more...)
}

// slot gives the series at *at, built if it is new.
func (w *walk) slot(at **slot, on labelled, name string, value fmt.Stringer) *slot {
	s := *at
	if s == nil {
		s = new(slot)
		*at = s
	}
	if !s.built {
		s.built = true
		s.labels = on.base()
		if name != "" {
			s.labels = with(s.labels, pair{name, value.String()})
		}
		w.set.all = append(w.set.all, s)
	}
	s.round = w.set.round
	return s
}

func (w *walk) float(at **slot, on labelled, v float64, name string, value fmt.Stringer) {
	w.to.float(w.slot(at, on, name, value), v)
}

// pair writes a sample of a series with two labels of its own, whose slot keyed gave.
func (w *walk) pair(at **slot, on labelled, v float64, name1, value1, name2, value2 string) {
	s := *at
	if !s.built {
		s.built = true
		s.labels = with(on.base(), pair{name1, value1}, pair{name2, value2})
		w.set.all = append(w.set.all, s)
	}
	s.round = w.set.round
	w.to.float(s, v)
}

func (w *walk) seconds(at **slot, on labelled, d time.Duration, name string, value fmt.Stringer) {
	w.to.float(w.slot(at, on, name, value), seconds(d))
}

func (w *walk) hist(at **slot, on labelled, h hist, name string, value fmt.Stringer) {
	w.to.hist(w.slot(at, on, name, value), h)
}

func (w *walk) transitions(s *pSlots, from, to pstate.State, n uint64) {
	key := uint16(from)<<8 | uint16(to)
	sl := s.transitions[key]
	if sl == nil || !sl.built {
		if s.transitions == nil {
			s.transitions = make(map[uint16]*slot)
		}
		sl = &slot{built: true, labels: with(s.labels, pair{"from", from.String()}, pair{"to", to.String()})}
		s.transitions[key] = sl
		w.set.all = append(w.set.all, sl)
	}
	sl.round = w.set.round
	w.to.float(sl, float64(n))
}

// status writes one series per runtime status of a P. The article's labels differ from ours: its pid is our p.
func (w *walk) status(s *pSlots, present pstate.State) {
	for st := range s.status {
		sl := s.status[st]
		if sl == nil || !sl.built {
			sl = &slot{built: true, labels: with(s.target.labels, pair{"pid", strconv.Itoa(int(s.p))},
				pair{"status", strconv.Itoa(st)})}
			s.status[st] = sl
			w.set.all = append(w.set.all, sl)
		}
		sl.round = w.set.round
		v := 0.0
		if pstate.State(st) == present {
			v = 1
		}
		w.to.float(sl, v)
	}
}

func (w *walk) info(s *targetSlots, t *pstate.Target) {
	sl := s.targetInfo
	if sl == nil || !sl.built {
		sl = &slot{built: true, labels: with(s.labels, pair{"go_version", t.GoVersion},
			pair{"source", string(t.Source)})}
		if t.Layout != "" {
			sl.labels = append(sl.labels, pair{"layout", string(t.Layout)})
		}
		if t.Reason != "" {
			sl.labels = append(sl.labels, pair{"reason", t.Reason})
		}
		s.targetInfo = sl
		w.set.all = append(w.set.all, sl)
	}
	sl.round = w.set.round
	w.to.float(sl, 1)
}

// agentFloat writes a sample that belongs to no target; labels are names and values in turn, empty values are left out.
func (w *walk) agentFloat(v float64, labels ...string) {
	key := w.fam.Name
	for _, l := range labels {
		key += "\xff" + l
	}
	sl := w.set.agent[key]
	if sl == nil || !sl.built {
		sl = &slot{built: true, labels: []pair{{"host", w.set.host}}}
		for i := 0; i < len(labels); i += 2 {
			if labels[i+1] != "" {
				sl.labels = append(sl.labels, pair{labels[i], labels[i+1]})
			}
		}
		w.set.agent[key] = sl
		w.set.all = append(w.set.all, sl)
	}
	sl.round = w.set.round
	w.to.float(sl, v)
}
