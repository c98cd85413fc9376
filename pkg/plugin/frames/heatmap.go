package frames

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// The heatmap forms that Grafana's panel knows.
const (
	typeRows  data.FrameType = "heatmap-rows"
	typeCells data.FrameType = "heatmap-cells"
)

// panelHeatmap is the panel in which Explore shows a heatmap; without it Explore draws lanes as a graph.
const panelHeatmap = "heatmap"

// Lanes is a heatmap with one row a curve (usually a P) in one frame: time, then a number field per curve.
func Lanes(curves []Curve, look Look) *data.Frame {
	f := wide(curves, look)
	f.Meta.Type, f.Meta.TypeVersion, f.Meta.PreferredVisualizationPluginID = typeRows, seriesVersion, panelHeatmap
	return f
}

// Bucket counts values v with Low < v <= High.
type Bucket struct {
	Low, High float64
	Count     float64
}

// Histogram is a distribution at one moment; its buckets don't overlap.
type Histogram struct {
	Time    time.Time
	Buckets []Bucket
}

// Rows is a heatmap of distributions over buckets with few, fixed bounds: one field per bucket with its upper bound as
// label le. The fields have no name, since Grafana would print it beside the bound.
func Rows(hists []Histogram, look Look) *data.Frame {
	bounds := map[float64]bool{}
	for _, h := range hists {
		for _, b := range h.Buckets {
			bounds[b.High] = true
		}
	}
	// Bounds between two that occur are rows of their own, though nothing fell there: a row left out would pull its
	// neighbours together.
	if top := math.Ldexp(1, 9); len(bounds) > 0 {
		highest := slices.Max(slices.Collect(maps.Keys(bounds)))
		for b := 1.0; b < min(highest, top); b *= 2 {
			bounds[b] = true
		}
		bounds[0] = true
	}
	order := slices.Sorted(maps.Keys(bounds))
	times := make([]time.Time, len(hists))
	columns := make([][]float64, len(order))
	for i := range columns {
		columns[i] = make([]float64, len(hists))
	}
	for row, h := range hists {
		times[row] = h.Time
		for _, b := range h.Buckets {
			i, _ := slices.BinarySearch(order, b.High)
			columns[i][row] += b.Count
		}
	}
	tf := data.NewField("time", nil, times)
	tf.Config = &data.FieldConfig{Interval: float64(look.Step.Milliseconds())}
	f := data.NewFrame("", tf)
	f.Meta = &data.FrameMeta{Type: typeRows, TypeVersion: seriesVersion, PreferredVisualizationPluginID: panelHeatmap,
		ExecutedQueryString: look.Query}
	for i, bound := range order {
		field := data.NewField("", data.Labels{"le": strconv.FormatFloat(bound, 'g', -1, 64)}, columns[i])
		field.Config = &data.FieldConfig{Unit: "short"}
		f.Fields = append(f.Fields, field)
	}
	return f
}

// Cells is a heatmap of distributions whose buckets are many and mostly empty: one row per bucket that counted
// something. look.Unit is the unit of the bounds.
func Cells(hists []Histogram, look Look) *data.Frame {
	var xMax []time.Time
	var yMin, yMax, count []float64
	for _, h := range hists {
		buckets := slices.SortedFunc(slices.Values(h.Buckets),
			func(a, b Bucket) int { return cmp.Compare(a.High, b.High) })
		for _, b := range buckets {
			// Below zero there is nothing, and a log axis has no place for zero itself.
			if b.Count <= 0 || b.High <= 0 {
				continue
			}
			low := b.Low
			if low <= 0 {
				low = b.High / 2
			}
			xMax, yMin, yMax, count = append(xMax, h.Time), append(yMin, low), append(yMax, b.High),
				append(count, b.Count)
		}
	}
	tf := data.NewField("xMax", nil, xMax)
	tf.Config = &data.FieldConfig{Interval: float64(look.Step.Milliseconds())}
	bound := func(name string, values []float64) *data.Field {
		f := data.NewField(name, nil, values)
		f.Config = &data.FieldConfig{Unit: look.Unit}
		return f
	}
	counts := data.NewField("count", nil, count)
	counts.Config = &data.FieldConfig{Unit: "short"}
	f := data.NewFrame("", tf, bound("yMin", yMin), bound("yMax", yMax), counts)
	f.Meta = &data.FrameMeta{Type: typeCells, TypeVersion: seriesVersion, PreferredVisualizationPluginID: panelHeatmap,
		ExecutedQueryString: look.Query}
	return f
}
