package frames

import (
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// table makes a frame that Grafana shows as a table first.
func table(fields ...*data.Field) *data.Frame {
	f := data.NewFrame("", fields...)
	f.Meta = &data.FrameMeta{PreferredVisualization: data.VisTypeTable}
	return f
}

// column is a field with one value per row.
func column[Row, T any](name string, rows []Row, value func(Row) T) *data.Field {
	values := make([]T, len(rows))
	for i, r := range rows {
		values[i] = value(r)
	}
	return data.NewField(name, nil, values)
}

// unit sets the unit of a field.
func unit(f *data.Field, u string) *data.Field {
	f.Config = &data.FieldConfig{Unit: u}
	return f
}

// moment is a time of which 0 means that there is none.
func moment(unixNano int64) *time.Time {
	if unixNano == 0 {
		return nil
	}
	t := time.Unix(0, unixNano).UTC()
	return &t
}

// known is a number of which below zero means that it is not known.
func known(n int32) *int32 {
	if n < 0 {
		return nil
	}
	return &n
}

// inSeconds turns nanoseconds into what the unit "s" means.
func inSeconds[N int64 | uint64](nanos N) float64 { return float64(nanos) / 1e9 }
