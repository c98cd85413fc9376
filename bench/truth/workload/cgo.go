//go:build cgo

package main

/*
#include <unistd.h>
static long spin(long n) { volatile long x = 0; for (long i = 0; i < n; i++) x += i; return x; }
static void nap(unsigned us) { usleep(us); }
*/
import "C"

import (
	"context"
	"time"
)

func init() { loads["cgo"] = cgo }

// cgo computes in C, long enough for sysmon to take the P away, computes shortly, and sleeps there.
func cgo(ctx context.Context) {
	each(4, func(i int) {
		for ctx.Err() == nil {
			switch i % 3 {
			case 0:
				C.spin(2_000_000)
			case 1:
				for range 100 {
					C.spin(1000)
				}
			case 2:
				C.nap(300)
			}
			time.Sleep(200 * time.Microsecond)
		}
	})
}
