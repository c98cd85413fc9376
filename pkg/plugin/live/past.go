package live

import (
	"slices"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// maxLanes is the most lanes of a row. Where more have ended, those that ended first are left out: a host may start
// programs all the time.
const maxLanes = 2000

// Past remembers the lanes of a stream. When a frame comes without a field that those before it had, Grafana forgets
// all its values: so the lanes of a process that has ended stay in the rows, empty, until their last value has left the
// viewers' range.
type Past struct {
	stretch time.Duration
	lanes   map[string]pastLane
}

type pastLane struct {
	labels data.Labels
	last   time.Time
}

// NewPast remembers lanes for as long as viewers look back.
func NewPast(stretch time.Duration) *Past {
	return &Past{stretch: stretch, lanes: map[string]pastLane{}}
}

// Saw notes that a lane had a value.
func (p *Past) Saw(labels data.Labels, at time.Time) { p.lanes[labels.String()] = pastLane{labels, at} }

// Ended gives the lanes that are not among the present ones but still in view, and whether some have just left it. The
// present ones have a value now.
func (p *Past) Ended(at time.Time, present []data.Labels) (ended []data.Labels, left bool) {
	now := make(map[string]bool, len(present))
	for _, l := range present {
		p.Saw(l, at)
		now[l.String()] = true
	}
	var gone []pastLane
	for id, l := range p.lanes {
		switch {
		case now[id]:
		case at.Sub(l.last) > p.stretch:
			delete(p.lanes, id)
			left = true
		default:
			gone = append(gone, l)
		}
	}
	slices.SortFunc(gone, func(a, b pastLane) int { return b.last.Compare(a.last) })
	for _, l := range gone[:min(len(gone), max(0, maxLanes-len(present)))] {
		ended = append(ended, l.labels)
	}
	return ended, left
}
