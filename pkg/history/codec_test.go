//go:build linux

package history

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// filled sets every field that it can reach to something, so that one which the codec leaves out is noticed.
func filled(r *rand.Rand, v reflect.Value, few bool) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<32), r.Int64N(1e9))))
			return
		}
		for i := range v.NumField() {
			filled(r, v.Field(i), few)
		}
	case reflect.Array:
		for i := range v.Len() {
			if !few || r.IntN(8) == 0 {
				filled(r, v.Index(i), few)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 8))
		for i := range v.Len() {
			filled(r, v.Index(i), few)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			filled(r, k, few)
			filled(r, e, few)
			v.SetMapIndex(k, e)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(r, v.Elem(), few)
	case reflect.String:
		v.SetString(string(rune('a'+r.IntN(26))) + "é")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.Uint8:
		v.SetUint(1 + r.Uint64N(127))
	case reflect.Uint64:
		v.SetUint(1 + r.Uint64()>>r.IntN(64))
	case reflect.Int, reflect.Int64:
		v.SetInt((1 + r.Int64()>>r.IntN(62)) * (1 - 2*r.Int64N(2)))
	case reflect.Int32:
		v.SetInt(1 - r.Int64N(1<<31))
	default:
		panic("no value for " + v.Type().String())
	}
}

func passed(t *testing.T, s *second) *second {
	t.Helper()
	var stream bytes.Buffer
	var out, in []byte
	if err := writeSecond(&stream, s, &out); err != nil {
		t.Fatal(err)
	}
	var got second
	if err := readSecond(bufio.NewReader(&stream), &got, &in); err != nil {
		t.Fatal(err)
	}
	return &got
}

// Everything that the agent knows of a second is the same in the child, whatever fields are added later.
func TestASecondIsHandedOverWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		var s second
		filled(r, reflect.ValueOf(&s).Elem(), i%2 == 0)
		if got := passed(t, &s); !reflect.DeepEqual(*got, s) {
			t.Fatalf("%+v\nbecame\n%+v", s, *got)
		}
	}
	for _, s := range []second{{}, {Snap: metrics.Snapshot{Views: []pstate.TargetView{{}},
		Lost: map[string]uint64{}}}} {
		if got := passed(t, &s); !reflect.DeepEqual(*got, s) {
			t.Errorf("%+v became %+v", s, *got)
		}
	}
}

// A stream that ends or is damaged is an error, takes no more memory than it has bytes for, and never what was not
// sent.
func FuzzReadSecond(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		var s second
		filled(r, reflect.ValueOf(&s).Elem(), true)
		var c coder
		c.second(&s)
		f.Add(c.buf)
	}
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		framed := append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data...)
		var s second
		var buf []byte
		if err := readSecond(bufio.NewReader(bytes.NewReader(framed)), &s, &buf); err != nil {
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			return
		}
		// NaN is never equal to itself, so what was read is compared as it is written.
		one, two := coder{}, coder{}
		one.second(&s)
		two.second(passed(t, &s))
		if len(one.buf) != len(two.buf) {
			t.Fatalf("%d bytes became %d", len(one.buf), len(two.buf))
		}
	})
}

// A second that is too large is given up and counted; those behind it go on.
func TestALargeSecondIsGivenUp(t *testing.T) {
	q := newQueue()
	for range 3 {
		q.put(1, metrics.Snapshot{})
	}
	q.refuse(2)
	if n, dropped := q.state(); n != 2 || dropped != 1 {
		t.Errorf("%d wait, %d were given up", n, dropped)
	}
	if next, ok, _ := q.after(1); !ok || next.Seq != 3 {
		t.Errorf("next is %d", next.Seq)
	}
	large := &second{Snap: metrics.Snapshot{Mode: string(make([]byte, maxSecond))}}
	var stream bytes.Buffer
	var buf []byte
	if err := writeSecond(&stream, large, &buf); !errors.Is(err, errLarge) || stream.Len() > 0 {
		t.Errorf("%v, %d bytes were written", err, stream.Len())
	}
}
