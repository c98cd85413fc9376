// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Cases and their checks. A case fails if one of its checks fails. The other checks still run, so that one run shows
// all failures.
#ifndef PSCOPE_TEST_CHECK_H
#define PSCOPE_TEST_CHECK_H

struct test_case {
	const char *name;
	void (*run)(void);
	struct test_case *next;
};

static struct test_case *first_case, **last_case = &first_case;
static u32 failures;
static const char *case_detail; // printed with a failure: the row of a table, or the order of two CPUs

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

#define CASE(case_name)												\
	static void case_##case_name(void);									\
	__attribute__((constructor)) static void enter_##case_name(void)					\
	{													\
		static struct test_case c = {#case_name, case_##case_name};					\
														\
		*last_case = &c;										\
		last_case = &c.next;										\
	}													\
	static void case_##case_name(void)

#define FAIL(...)												\
	do {													\
		if (++failures <= 4) {										\
			printf("# %s:%d: ", file_name(__FILE__), __LINE__);					\
			printf(__VA_ARGS__);									\
			printf("%s%s\n", case_detail ? " in " : "", case_detail ?: "");				\
		}												\
	} while (0)

#define CHECK_EQ(what, got, want)										\
	do {													\
		long long got_ = (long long)(got), want_ = (long long)(want);					\
														\
		if (got_ != want_)										\
			FAIL("%s is %lld, want %lld", what, got_, want_);					\
	} while (0)

#define CHECK(cond, ...)											\
	do {													\
		if (!(cond))											\
			FAIL(__VA_ARGS__);									\
	} while (0)

#endif
