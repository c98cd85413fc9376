// Command contract writes for TypeScript what Go and TypeScript both speak in: the states of Ps and threads with their
// colours, the query model with its defaults, the metrics with their labels, and the names of series. Each stands once
// in Go, in the package that it belongs to:
//
//	go run ./tools/contract -o src/gen/contract.ts
//
// With -check it writes nothing and says whether the file is what it would write. What both languages compute by a rule
// of their own is tested with common cases (tools/contract/cases).
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("o", "src/gen/contract.ts", "file to write")
	check := flag.Bool("check", false, "only say whether the file is current")
	flag.Parse()
	if err := run(*out, *check); err != nil {
		fmt.Fprintln(os.Stderr, "contract:", err)
		os.Exit(1)
	}
}

func run(out string, check bool) error {
	text, err := contract()
	if err != nil {
		return err
	}
	if !check {
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return err
		}
		return os.WriteFile(out, text, 0o644)
	}
	there, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, text) {
		return fmt.Errorf(`%s is not what the Go packages say: run "npm run gen:contract" and commit the result`, out)
	}
	return nil
}
