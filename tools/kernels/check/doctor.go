//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"github.com/p-scope/p-scope/tools/kernels/account"
	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// askDoctor runs `pscope doctor --json` as a user.
func askDoctor(ctx context.Context, program, dir string, u plan.User, d *account.Doctor) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	// An emulated machine needs longer for everything.
	cmd := exec.CommandContext(ctx, program, "doctor", "--json", "--patience", "5m")
	cmd.Dir, cmd.Env = dir, []string{"PATH=/bin:/usr/bin", "HOME=" + dir}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	u.Become(cmd)
	code, err := plan.Code(ctx, cmd.Run())
	d.Code = code
	var report struct {
		Verdict, Mode string
		Checks        []struct{ Name, Result, Detail string }
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &report)
	}
	if err != nil {
		d.Failed = fmt.Sprintf("%v %s", err, errs.String())
		return
	}
	d.Verdict, d.Mode = report.Verdict, report.Mode
	for _, c := range report.Checks {
		if c.Name == "stops" {
			d.Stops = c.Result
		}
		if c.Result != "ok" && c.Result != "info" {
			d.Checks = append(d.Checks, fmt.Sprintf("%s: %s: %s", c.Name, c.Result, c.Detail))
		}
	}
}
