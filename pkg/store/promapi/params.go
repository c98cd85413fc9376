package promapi

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
)

var number = regexp.MustCompile(`^[-+]?[0-9.]+(e[-+]?[0-9]+)?$`)

// timeParam reads seconds since 1970, or a time in RFC 3339.
func timeParam(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	v := r.FormValue(name)
	if v == "" {
		return otherwise, nil
	}
	if number.MatchString(v) {
		if sec, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(sec) < 1e15 {
			return time.UnixMilli(int64(math.Round(sec * 1000))), nil
		}
	} else if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	return time.Time{}, badData("invalid parameter %q: cannot parse %q to a valid timestamp: write seconds since "+
		"1970, or a time like 2006-01-02T15:04:05Z", name, v)
}

// durationParam reads seconds, or a duration like 5m.
func durationParam(r *http.Request, name string) (time.Duration, error) {
	v := r.FormValue(name)
	if sec, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(sec) < 1e9 {
		return time.Duration(sec * float64(time.Second)), nil
	}
	if d, err := model.ParseDuration(v); err == nil {
		return time.Duration(d), nil
	}
	return 0, badData("invalid parameter %q: cannot parse %q to a valid duration: write seconds, or a duration like 5m",
		name, v)
}

func limitParam(r *http.Request) (int, error) {
	v := r.FormValue("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, badData(`invalid parameter "limit": %q is not a whole number from 0 on`, v)
	}
	return n, nil
}
