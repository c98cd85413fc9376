package frames

import (
	"slices"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// Curve is one series of numbers, ordered by time.
type Curve struct {
	Labels data.Labels
	Times  []time.Time
	Values []float64
}

// Look says how numbers are shown.
type Look struct {
	Name   string        // name of the value field, e.g. the metric
	Unit   string        // in Grafana's words
	Step   time.Duration // distance of points: a longer gap is drawn as one
	Legend string        // template; empty for automatic names
	// Query is the PromQL sent, for the query inspector.
	Query string
	// Share is true for shares of time: taken over whole windows, sampling jitter can lift them a little above 1, which
	// they can't be.
	Share bool
}

var seriesVersion = data.FrameTypeVersion{0, 1}

// Series is one frame per curve, in the dataplane form timeseries-multi. No curves are one frame without fields: "no
// data", not an error.
func Series(curves []Curve, look Look) data.Frames {
	meta := func() *data.FrameMeta {
		return &data.FrameMeta{Type: data.FrameTypeTimeSeriesMulti, TypeVersion: seriesVersion,
			ExecutedQueryString:    look.Query,
			PreferredVisualization: data.VisTypeGraph}
	}
	if len(curves) == 0 {
		f := data.NewFrame("")
		f.Meta = meta()
		return data.Frames{f}
	}
	curves, names := sortedNames(curves, look)
	out := make(data.Frames, len(curves))
	for i, c := range curves {
		times := data.NewField("time", nil, c.Times)
		times.Config = &data.FieldConfig{Interval: float64(look.Step.Milliseconds())}
		if look.Share {
			clampShares(c.Values) // before: the field gets a copy
		}
		values := data.NewField(look.Name, c.Labels, c.Values)
		values.Config = look.config(names[i])
		out[i] = data.NewFrame("", times, values)
		out[i].Meta = meta()
	}
	return out
}

// Wide is all curves in one frame with a common time: what a live channel continues, since its messages are rows of one
// frame.
func Wide(curves []Curve, look Look) *data.Frame {
	f := wide(curves, look)
	f.Meta.Type, f.Meta.TypeVersion = data.FrameTypeTimeSeriesWide, seriesVersion
	f.Meta.PreferredVisualization = data.VisTypeGraph
	return f
}

// wide joins curves by time; where one has no value there is none.
func wide(curves []Curve, look Look) *data.Frame {
	curves, names := sortedNames(curves, look)
	grid := timeGrid(curves)
	times := data.NewField("time", nil, grid)
	times.Config = &data.FieldConfig{Interval: float64(look.Step.Milliseconds())}
	f := data.NewFrame("", times)
	f.Meta = &data.FrameMeta{ExecutedQueryString: look.Query}
	for i, c := range curves {
		if look.Share {
			clampShares(c.Values)
		}
		values := make([]*float64, len(grid))
		at := 0
		for j := range c.Times {
			for !grid[at].Equal(c.Times[j]) {
				at++
			}
			values[at] = &c.Values[j]
		}
		field := data.NewField(fieldName(look.Name, c.Labels), c.Labels, values)
		field.Config = look.config(names[i])
		f.Fields = append(f.Fields, field)
	}
	return f
}

func (l Look) config(name string) *data.FieldConfig {
	return &data.FieldConfig{DisplayNameFromDS: name, Unit: l.Unit}
}

// sortedNames puts the curves in order and names them.
func sortedNames(curves []Curve, look Look) ([]Curve, []string) {
	curves = slices.SortedStableFunc(slices.Values(curves),
		func(a, b Curve) int { return byLabels(a.Labels, b.Labels) })
	sets := make([]data.Labels, len(curves))
	for i, c := range curves {
		sets[i] = c.Labels
	}
	if look.Legend == "" {
		return curves, Names(sets, look.Name)
	}
	names := make([]string, len(curves))
	for i, l := range sets {
		names[i] = legend(look.Legend, l)
	}
	return curves, names
}

// timeGrid is every moment at which any curve has a value, ascending.
func timeGrid(curves []Curve) []time.Time {
	var grid []time.Time
	for _, c := range curves {
		grid = append(grid, c.Times...)
	}
	slices.SortFunc(grid, time.Time.Compare)
	return slices.CompactFunc(grid, time.Time.Equal)
}

func clampShares(values []float64) {
	for i, v := range values {
		values[i] = min(max(v, 0), 1)
	}
}
