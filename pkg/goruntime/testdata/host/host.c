// A C program with Go inside. Arguments: for each library its path and how many goroutines keep a CPU busy in it;
// "fork" ends the list and makes a child that executes nothing. With -DARCHIVE the Go code is linked in, and threads of
// C call it.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef ARCHIVE
extern void Work(int busy, int waiting);

static void *caller(void *busy)
{
	Work(*(int *)busy, 1);
	for (;;)
		pause();
	return NULL;
}
#endif

int main(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i += 2) {
#ifndef ARCHIVE
		void (*work)(int, int) = NULL;
		void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);

		if (library)
			work = (void (*)(int, int))dlsym(library, "Work");
		if (!work) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		work(atoi(argv[i + 1]), 1);
#else
		pthread_t thread;
		static int busy;

		busy = atoi(argv[i + 1]);
		if (pthread_create(&thread, NULL, caller, &busy))
			return 1;
		sleep(1);
#endif
	}
	if (i < argc && !strcmp(argv[i], "fork")) {
		pid_t child = fork();

		if (child)
			printf("%d\n", (int)child);
		else
			for (;;)
				pause();
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
