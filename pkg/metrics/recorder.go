package metrics

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

// Recorder appends snapshots to a time series database. It is not safe for concurrent use.
type Recorder struct {
	set set

	app     storage.AppenderV2
	at      int64
	name    string
	n       int
	refused int
	err     error
}

// NewRecorder gives a Recorder for series of this host and agent version.
func NewRecorder(host, version string) *Recorder { return &Recorder{set: newSet(host, version)} }

type storeSlot struct {
	labels labels.Labels
	ref    storage.SeriesRef
	hist   *histogram.Histogram
}

// Record appends every sample of the snapshot with the time at (Unix milliseconds), and a staleness marker for every
// series that has ended since the last call. It gives the number of samples appended and of those the database refused,
// with the first reason. Committing is the caller's.
func (r *Recorder) Record(app storage.AppenderV2, at int64, snap *Snapshot) (appended, refused int, err error) {
	r.app, r.at, r.n, r.refused, r.err = app, at, 0, 0, nil
	r.set.run(snap, r)
	live := make(map[storage.SeriesRef]bool)
	first := true
	r.set.gone(func(s *slot) {
		if first {
			// A process that took over the pid and name of another writes the very same series.
			for _, l := range r.set.all {
				if l.round == r.set.round {
					live[l.store.ref] = true
				}
			}
			first = false
		}
		if s.store.ref == 0 || live[s.store.ref] {
			return
		}
		var h *histogram.Histogram
		if s.store.hist != nil {
			h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		}
		r.append(s, math.Float64frombits(value.StaleNaN), h)
	})
	r.app = nil
	return r.n, r.refused, r.err
}

// End appends a staleness marker for every series, so that the agent's absence is seen at once.
func (r *Recorder) End(app storage.AppenderV2, at int64) error {
	_, _, err := r.Record(app, at, &Snapshot{})
	return err
}

func (r *Recorder) family(f *Family) { r.name = f.Name }

// grain is about a microsecond: rounding seconds to it halves what a sample takes in a chunk, because the low bits of a
// float64 are as good as random there.
const grain = 1 << 20

func (r *Recorder) float(s *slot, v float64) {
	if v != math.Trunc(v) {
		v = math.Round(v*grain) / grain
	}
	r.append(s, v, nil)
}

func (r *Recorder) hist(s *slot, h hist) {
	n := native(h)
	if old := s.store.hist; old != nil && old.Equals(n) {
		n = old
	}
	s.store.hist = n
	r.append(s, 0, n)
}

func (r *Recorder) append(s *slot, v float64, h *histogram.Histogram) {
	if s.store.ref == 0 && s.labels != nil {
		ls := make([]labels.Label, 0, len(s.labels)+1)
		ls = append(ls, labels.Label{Name: model.MetricNameLabel, Value: r.name})
		for _, p := range s.labels {
			ls = append(ls, labels.Label{Name: p.name, Value: strings.ToValidUTF8(p.value, "�")})
		}
		slices.SortFunc(ls, func(a, b labels.Label) int { return cmp.Compare(a.Name, b.Name) })
		s.store.labels = labels.New(ls...)
		s.labels = nil
	}
	ref, err := r.app.Append(s.store.ref, s.store.labels, 0, r.at, v, h, nil, storage.AOptions{})
	if err != nil {
		r.refused++
		if r.err == nil || errors.Is(r.err, storage.ErrDuplicateSampleForTimestamp) {
			r.err = err
		}
		return
	}
	s.store.ref = ref
	r.n++
}

// native converts to the database's form: spans of buckets that hold something, with differences between neighbours.
func native(h hist) *histogram.Histogram {
	out := &histogram.Histogram{Schema: h.schema, ZeroThreshold: 0x1p-128, ZeroCount: h.zero, Count: h.count,
		Sum: h.sum}
	out.PositiveSpans, out.PositiveBuckets = spans(h)
	return out
}

// spans gives the buckets that hold something: a gap of one or two empty buckets is cheaper kept than cut.
func spans(h hist) (ss []histogram.Span, deltas []int64) {
	n := 0
	for _, c := range h.counts {
		if c > 0 {
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	deltas = make([]int64, 0, n+4)
	var last int64
	next := int32(0) // index after the last one written
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		index := h.first + int32(i)
		switch gap := index - next; {
		case len(ss) == 0:
			ss = append(ss, histogram.Span{Offset: index})
		case gap > 2:
			ss = append(ss, histogram.Span{Offset: gap})
		default:
			for range gap {
				deltas = append(deltas, -last)
				last = 0
				ss[len(ss)-1].Length++
			}
		}
		deltas = append(deltas, int64(c)-last)
		last = int64(c)
		ss[len(ss)-1].Length++
		next = index + 1
	}
	return ss, deltas
}
