/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and memory of reading and lowering long Dockerfiles: of N and of 2N lines, so that what is
 * not linear shows as a ratio above 2. Figures only, no verdict.
 */
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/dockerfile/dockerfile.h"

#define LINES 10000u
#define RUNS  7u

typedef struct kind {
	const char *name;
	void (*line)(bxc_buf *b, unsigned i);
} kind;

static void line_run(bxc_buf *b, unsigned i)
{
	bxc_buf_addf(b, "RUN echo step %u > /tmp/out && cat /tmp/out\n", i);
}

static void line_copy(bxc_buf *b, unsigned i)
{
	bxc_buf_addf(b, "COPY src/dir%u/file.c /app/dir%u/\n", i, i);
}

static void line_link(bxc_buf *b, unsigned i)
{
	bxc_buf_addf(b, "COPY --link src/dir%u/file.c /app/dir%u/\n", i, i);
}

static void line_env(bxc_buf *b, unsigned i)
{
	bxc_buf_addf(b, "ENV NAME%u=value-$NAME%u\n", i % 5000, (i + 1) % 5000);
}

static void line_label(bxc_buf *b, unsigned i)
{
	bxc_buf_addf(b, "LABEL org.example.label%u=value\n", i % 5000);
}

static void line_arg(bxc_buf *b, unsigned i)
{
	/* More than 10,000 in a stage are refused. */
	if (i % 4 == 0)
		bxc_buf_addf(b, "ARG NAME%u=value\n", i % 5000);
	else
		bxc_buf_adds(b, "USER 1000\n");
}

static void line_stage(bxc_buf *b, unsigned i)
{
	if (i % 2 == 0)
		bxc_buf_addf(b, "FROM base AS s%u\n", i);
	else if (i > 2)
		bxc_buf_addf(b, "COPY --from=s%u /f /g\n", i - 3);
	else
		bxc_buf_adds(b, "COPY /f /g\n");
}

/* As people write them: few variables, many steps. */
static void line_mixed(bxc_buf *b, unsigned i)
{
	static void (*const all[])(bxc_buf *, unsigned) = {
		line_run, line_copy, line_run, line_link};
	if (i % 50 == 49)
		bxc_buf_addf(b, "WORKDIR /w%u\n", i);
	else if (i % 50 == 24)
		line_env(b, i / 50 % 40);
	else if (i % 50 == 12)
		line_label(b, i / 50 % 40);
	else
		all[i % 4](b, i);
}

static bool lookup(const char *ref, const bxc_platform *platform, bxc_df_image *ret, void *ud)
{
	(void)ref;
	(void)platform;
	*ret = (bxc_df_image){.digest = bxc_digest_of_str("base"), .config = ud};
	return true;
}

static void check(int r, const bxc_err *err)
{
	if (r != 0) {
		(void)fprintf(stderr, "lowering gave %s: %s\n", bxc_code_name((bxc_code)-r),
			bxc_err_text(err));
		bxc_check(false);
	}
}

/* Of this process: what else the machine does is not counted. */
static int64_t cpu_ns(void)
{
	struct timespec t;
	bxc_check(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The least time of some runs and what the last one held at its end. */
static void measure(bxc_slice text, const bxc_oci_config *base, int64_t *ret_ns, size_t *ret_bytes)
{
	*ret_ns = INT64_MAX;
	for (unsigned i = 0; i < RUNS; i++) {
		size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
		int64_t begun = cpu_ns();
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *ast = NULL;
		BXC_CLEANUP(bxc_def_freep) bxc_def *def = bxc_def_new();
		BXC_AUTODFRESULT bxc_df_result res = {0};
		const bxc_df_opts o = {.platform = {.os = "linux", .arch = "amd64"},
			.session = "s",
			.lookup = lookup,
			.lookup_ud = (void *)(uintptr_t)base};
		int r = bxc_df_parse(text, "Dockerfile", &ast, &err);
		if (r == 0)
			r = bxc_df_lower(ast, &o, def, &res, &err);
		check(r, err);
		*ret_ns = BXC_MIN(*ret_ns, cpu_ns() - begun);
		*ret_bytes = mallinfo2().uordblks + mallinfo2().hblkhd - before;
	}
}

static void one(const kind *k, const bxc_oci_config *base)
{
	int64_t ns[2];
	size_t bytes[2];
	for (unsigned twice = 0; twice < 2; twice++) {
		BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(64u << 20);
		bxc_buf_adds(&b, "FROM base AS base\n");
		unsigned n = (twice ? 2 * LINES - 100 : LINES) - 2;
		for (unsigned i = 0; i < n; i++)
			k->line(&b, i);
		measure(bxc_buf_slice(&b), base, &ns[twice], &bytes[twice]);
	}
	printf("%-8s %7.1f ms %7.1f MB   twice as long: %.2f x time, %.2f x memory\n", k->name,
		(double)ns[0] / 1e6, (double)bytes[0] / 1e6, (double)ns[1] / (double)ns[0],
		(double)bytes[1] / (double)bytes[0]);
}

/* usage: bench-lowering [KIND] */
int main(int argc, char **argv)
{
	static const kind kinds[] = {{"mixed", line_mixed}, {"RUN", line_run}, {"COPY", line_copy},
		{"link", line_link}, {"ENV", line_env}, {"LABEL", line_label}, {"ARG", line_arg},
		{"stages", line_stage}};
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *base = bxc_oci_config_new();
	base->platform = (bxc_platform){.os = "linux", .arch = "amd64"};
	bxc_strv_push(&base->env, "PATH=/bin");
	*bxc_arr_push(&base->diff_ids) = bxc_digest_of_str("layer");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++)
		if (argc < 2 || bxc_str_eq(argv[1], kinds[i].name))
			one(&kinds[i], base);
	return 0;
}
