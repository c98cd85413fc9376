package frames

import (
	"cmp"
	"slices"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/internal/spans"
)

// Span is one stretch of a timeline, in Unix nanoseconds.
type Span struct {
	Start, End int64
	Shade      Shade
}

// Lane is the timeline of one P: spans by start, not overlapping. Gaps are times of which nothing is known.
type Lane struct {
	Labels data.Labels
	Spans  []Span
}

// panelTimeline is the panel in which Explore shows a timeline; without it Explore knows only tables for enums.
const panelTimeline = "state-timeline"

// Timeline is one frame per P with exact bounds: time, timeEnd, and the state as an enum. There are at most limit rows
// a P.
func Timeline(lanes []Lane, palette Palette, limit int) data.Frames {
	lanes, names := sortedLanes(lanes)
	out := make(data.Frames, 0, len(lanes))
	for i, lane := range lanes {
		reduced := Reduce(lane.Spans, limit, palette)
		start, end := make([]time.Time, len(reduced)), make([]time.Time, len(reduced))
		shade := make([]data.EnumItemIndex, len(reduced))
		for j, s := range reduced {
			start[j], end[j], shade[j] = time.Unix(0, s.Start).UTC(), time.Unix(0, s.End).UTC(), s.Shade
		}
		state := data.NewField("state", lane.Labels, shade)
		state.Config = &data.FieldConfig{DisplayNameFromDS: names[i], TypeConfig: palette.config()}
		f := data.NewFrame("", data.NewField("time", nil, start), data.NewField("timeEnd", nil, end), state)
		f.Meta = &data.FrameMeta{PreferredVisualizationPluginID: panelTimeline}
		out = append(out, f)
	}
	if len(out) == 0 {
		f := data.NewFrame("")
		f.Meta = &data.FrameMeta{PreferredVisualizationPluginID: panelTimeline}
		out = append(out, f)
	}
	return out
}

// TimelineWide is the sampled form that a live channel continues: one frame with a common time and one enum field per
// P. A point holds the shade of the stretch that begins there. Without a live channel Timeline is exact and better.
func TimelineWide(lanes []Lane, palette Palette, first, last time.Time, step time.Duration) *data.Frame {
	lanes, names := sortedLanes(lanes)
	var grid []time.Time
	for t := first; !t.After(last); t = t.Add(step) {
		grid = append(grid, t.UTC())
	}
	f := data.NewFrame("", data.NewField("time", nil, grid))
	f.Meta = &data.FrameMeta{PreferredVisualizationPluginID: panelTimeline}
	for i, lane := range lanes {
		field := data.NewField(fieldName("state", lane.Labels), lane.Labels, sample(lane.Spans, palette, grid, step))
		field.Config = &data.FieldConfig{DisplayNameFromDS: names[i], TypeConfig: palette.config()}
		f.Fields = append(f.Fields, field)
	}
	return f
}

// sample gives for each point the shade of the step after it.
func sample(lane []Span, palette Palette, grid []time.Time, step time.Duration) []*data.EnumItemIndex {
	out := make([]*data.EnumItemIndex, len(grid))
	next := 0
	for i, t := range grid {
		from, to := t.UnixNano(), t.Add(step).UnixNano()
		for next < len(lane) && lane[next].End <= from {
			next++
		}
		var held Held
		for _, s := range lane[next:] {
			if s.Start >= to {
				break
			}
			held[s.Shade] += min(s.End, to) - max(s.Start, from)
		}
		out[i] = palette.Prevailing(held)
	}
	return out
}

// Held is for how many nanoseconds of a window each shade held.
type Held [16]int64

// rareShare is the share of a window from which a rare shade stands for the window although another filled more of it.
// Below it a process that collects garbage twice a second would seem to stand still all the time.
const rareShare = 0.1

// Prevailing is the shade that stands for a window; nil when nothing is known of it.
func (p Palette) Prevailing(held Held) *Shade {
	var total int64
	for _, h := range held {
		total += h
	}
	if total == 0 {
		return nil
	}
	best := Shade(0)
	for s := range p.text {
		rare := p.Rare(Shade(s)) && float64(held[s]) >= rareShare*float64(total)
		bestRare := p.Rare(best) && float64(held[best]) >= rareShare*float64(total)
		if rare && !bestRare || rare == bestRare && held[s] > held[best] {
			best = Shade(s)
		}
	}
	return &best
}

// Reduce makes at most limit spans by the rule by which agents reduce before they send. So this works only where
// several answers add up, where the sender knew no limit, or where two states look the same.
func Reduce(lane []Span, limit int, palette Palette) []Span {
	in := make([]spans.Span, len(lane))
	for i, s := range lane {
		in[i] = spans.Span{Start: s.Start, End: s.End, Code: uint8(s.Shade)}
	}
	merged := spans.Merge(in, limit, func(code uint8) bool { return palette.Rare(Shade(code)) })
	out := make([]Span, len(merged))
	for i, s := range merged {
		out[i] = Span{Start: s.Start, End: s.End, Shade: Shade(s.Code)}
	}
	return out
}

func sortedLanes(lanes []Lane) ([]Lane, []string) {
	lanes = slices.SortedStableFunc(slices.Values(lanes), func(a, b Lane) int { return byLabels(a.Labels, b.Labels) })
	sets := make([]data.Labels, len(lanes))
	for i, l := range lanes {
		sets[i] = l.Labels
		slices.SortFunc(l.Spans, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	}
	return lanes, Names(sets, "P")
}
