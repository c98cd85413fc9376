package promapi

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

// The answers of a day for 64 Ps hold a hundred thousand points: they are written straight into one slice, in the form
// that
// https://prometheus.io/docs/prometheus/latest/querying/api/ describes. The slice is handed on (part)
// whenever it is long enough.

// parts takes what has been encoded and gives a slice to go on with.
type parts func(b []byte) []byte

// encode appends what goes under "data".
func encode(b []byte, data any, part parts) []byte {
	switch d := data.(type) {
	case answered:
		defer d.close()
		b = append(b, `{"resultType":"`...)
		b = append(b, d.value.Type()...)
		b = append(b, `","result":`...)
		return append(encodeValue(b, d, part), '}')
	case []labels.Labels:
		return long(b, d, encodeLabels, part)
	}
	text, err := json.Marshal(data)
	if err != nil {
		return append(b, "null"...) // strings, and maps and structs of them, can always be written
	}
	return append(b, text...)
}

func encodeValue(b []byte, d answered, part parts) []byte {
	switch v := d.value.(type) {
	case promql.Matrix:
		return long(b, cut(v, d.limit), encodeSeries, part)
	case promql.Vector:
		return long(b, cut(v, d.limit), encodeSample, part)
	case promql.Scalar:
		return encodeFloat(b, v.T, v.V)
	case promql.String:
		b = encodeTime(append(b, '['), v.T)
		return append(encodeString(append(b, ','), v.V), ']')
	}
	return append(b, "[]"...)
}

// long is a list whose parts leave one by one.
func long[E any](b []byte, es []E, one func([]byte, E) []byte, part parts) []byte {
	return list(b, es, func(b []byte, e E) []byte { return part(one(b, e)) })
}

func cut[S ~[]E, E any](s S, limit int) S {
	if limit > 0 && len(s) > limit {
		return s[:limit]
	}
	return s
}

func list[E any](b []byte, es []E, one func([]byte, E) []byte) []byte {
	b = append(b, '[')
	for i, e := range es {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, e)
	}
	return append(b, ']')
}

func encodeSeries(b []byte, s promql.Series) []byte {
	b = encodeLabels(append(b, `{"metric":`...), s.Metric)
	if len(s.Floats) > 0 {
		b = list(append(b, `,"values":`...), s.Floats, func(b []byte, p promql.FPoint) []byte {
			return encodeFloat(b, p.T, p.F)
		})
	}
	if len(s.Histograms) > 0 {
		b = list(append(b, `,"histograms":`...), s.Histograms, func(b []byte, p promql.HPoint) []byte {
			return encodeHistogram(b, p.T, p.H)
		})
	}
	return append(b, '}')
}

func encodeSample(b []byte, s promql.Sample) []byte {
	b = encodeLabels(append(b, `{"metric":`...), s.Metric)
	if s.H != nil {
		b = encodeHistogram(append(b, `,"histogram":`...), s.T, s.H)
	} else {
		b = encodeFloat(append(b, `,"value":`...), s.T, s.F)
	}
	return append(b, '}')
}

func encodeLabels(b []byte, ls labels.Labels) []byte {
	b = append(b, '{')
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = encodeString(b, l.Name)
		b = encodeString(append(b, ':'), l.Value)
	})
	return append(b, '}')
}

func encodeFloat(b []byte, t int64, f float64) []byte {
	b = encodeTime(append(b, '['), t)
	return append(quoted(append(b, ','), f), ']')
}

// encodeTime writes milliseconds as seconds.
func encodeTime(b []byte, t int64) []byte {
	if t < 0 {
		b, t = append(b, '-'), -t
	}
	b = strconv.AppendInt(b, t/1000, 10)
	if ms := t % 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return b
}

// quoted writes a number as a string, because JSON knows neither NaN nor infinity.
func quoted(b []byte, f float64) []byte {
	form := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		form = 'e'
	}
	return append(strconv.AppendFloat(append(b, '"'), f, form, -1, 64), '"')
}

// encodeHistogram writes the buckets that hold something as [boundaries, lower, upper, count]; boundaries: 0 upper
// inclusive, 1 lower inclusive, 2 neither, 3 both.
func encodeHistogram(b []byte, t int64, h *histogram.FloatHistogram) []byte {
	b = encodeTime(append(b, '['), t)
	b = quoted(append(b, `,{"count":`...), h.Count)
	b = quoted(append(b, `,"sum":`...), h.Sum)
	first := true
	for it := h.AllBucketIterator(); it.Next(); {
		bucket := it.At()
		if bucket.Count == 0 {
			continue
		}
		if first {
			b = append(b, `,"buckets":[`...)
		} else {
			b = append(b, ',')
		}
		first = false
		boundaries := byte('2')
		switch {
		case bucket.LowerInclusive && bucket.UpperInclusive:
			boundaries = '3'
		case bucket.LowerInclusive:
			boundaries = '1'
		case bucket.UpperInclusive:
			boundaries = '0'
		}
		b = quoted(append(b, '[', boundaries, ','), bucket.Lower)
		b = quoted(append(b, ','), bucket.Upper)
		b = append(quoted(append(b, ','), bucket.Count), ']')
	}
	if !first {
		b = append(b, ']')
	}
	return append(b, '}', ']')
}

func encodeString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, _ := json.Marshal(s)
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// encodeNotes appends warnings and infos, where there are any.
func encodeNotes(b []byte, query string, notes annotations.Annotations) []byte {
	warnings, infos := notes.AsStrings(query, 10, 10)
	for _, n := range []struct {
		name string
		list []string
	}{{"warnings", warnings}, {"infos", infos}} {
		if len(n.list) > 0 {
			text, _ := json.Marshal(n.list)
			b = append(append(append(b, `,"`...), n.name...), `":`...)
			b = append(b, text...)
		}
	}
	return b
}
