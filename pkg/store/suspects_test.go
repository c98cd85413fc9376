package store

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"golang.org/x/sys/unix"
)

// A request that quotes what the database says of damage does not have the history read anew.
func TestOnlyTheDatabaseSpeaksOfDamage(t *testing.T) {
	const said = "checksum mismatch expected:6f1a9b2c, actual:00000000"
	s := open(t, nil)
	for path, form := range map[string]url.Values{
		"/api/v1/query":  {"query": {"up"}, "time": {said}},
		"/api/v1/other":  {},
		"/api/v1/series": {"match[]": {`{a="` + said + `"`}},
	} {
		if code, _, _ := ask(t, s, path, form); code == http.StatusOK {
			t.Errorf("%s is answered", path)
		}
	}
	if s.suspect.Load() {
		t.Error("a request is taken for damage")
	}
	if !suspects(fmt.Errorf("cannot populate chunk 8 from block X: %w", errors.New(said))) {
		t.Error("damage is not seen")
	}
}

// What is wrong with the machine is not wrong with a block.
func TestPassingErrors(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("open: %w", unix.EMFILE): true, fmt.Errorf("read: %w", unix.EIO): true,
		errors.New("invalid magic number 0"): false, fmt.Errorf("open: %w", unix.ENOENT): false,
	} {
		if passing(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
