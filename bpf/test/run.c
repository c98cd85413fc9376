// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The programs of bpf/, compiled for user space with a machine that runs them and with their test cases. Each case runs
// in its own process. The output is in the Test Anything Protocol. pkg/collector/kerntest makes a Go test of each case.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <sanitizer/common_interface_defs.h>

// libc may define these names itself.
#define pt_regs kernel_pt_regs
#define user_pt_regs kernel_user_pt_regs
#include "../pscope.bpf.c"
#include "check.h"
#include "machine.h"

#include "process.h"
#include "cases_account.h"
#include "cases_rules.h"
#include "cases_lags.h"
#include "cases_stops.h"
#include "cases_threads.h"
#include "cases_races.h"
#include "cases_random.h"

int main(int argc, char **argv)
{
	int n = 0, failed = 0;

	// Usage: cases [seed of the random cases] [prefix of the names of the cases to run]
	seed_of_run = argc > 1 ? strtoull(argv[1], 0, 0) : 1;
	setvbuf(stdout, 0, _IOLBF, 0);
	for (struct test_case *c = first_case; c; c = c->next) {
		int status = 0;
		pid_t child;

		if (argc > 2 && strncmp(argv[2], c->name, strlen(argv[2])))
			continue;
		n++;
		child = fork();
		if (!child) {
			dup2(1, 2); // the output of a sanitizer belongs to the case
			clear_maps();
			c->run();
			invariants();
			exit(failures ? 1 : 0);
		}
		if (child < 0 || waitpid(child, &status, 0) < 0) {
			perror("fork");
			return 2;
		}
		if (status) {
			failed++;
			if (WIFSIGNALED(status))
				printf("# ended by signal %d\n", WTERMSIG(status));
		}
		printf("%s %d - %s\n", status ? "not ok" : "ok", n, c->name);
	}
	printf("1..%d\n", n);
	return failed ? 1 : 0;
}
