package main

import (
	"path/filepath"
	"testing"
)

func TestTheGeneratedFileIsCurrent(t *testing.T) {
	if err := run(filepath.Join("..", "..", "src", "gen", "contract.ts"), true); err != nil {
		t.Error(err)
	}
}
