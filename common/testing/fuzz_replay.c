/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a libFuzzer target once over every file of the folders given as arguments, so that the
 * corpus is replayed by the ordinary test run, without clang. Prints TAP; an empty or missing
 * folder is a failure, as it would hide that nothing was tested.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEED_MAX (64u << 20)

static bool replay(const char *path)
{
	BXC_AUTOCLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < 0 || st.st_size > SEED_MAX)
		return false;
	/* Exactly as large as the input, so that a sanitizer sees every read past its end. */
	size_t size = (size_t)st.st_size, done = 0;
	BXC_AUTOFREE uint8_t *data = bxc_malloc(size ? size : 1);
	while (done < size) {
		ssize_t n = read(fd, data + done, size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	(void)LLVMFuzzerTestOneInput(data, size);
	return true;
}

static int not_dots(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static unsigned replay_folder(const char *folder, unsigned *n_tests)
{
	struct dirent **entries = NULL;
	unsigned failed = 0, found = 0;
	int n = scandir(folder, &entries, not_dots, alphasort);
	for (int i = 0; i < n; i++) {
		BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", folder, entries[i]->d_name);
		free(entries[i]);
		struct stat st;
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			continue;
		bool ok = replay(path);
		printf("%sok %u - %s\n", ok ? "" : "not ", ++*n_tests, path);
		/* A crash in the next input must not swallow the name of this one. */
		fflush(stdout);
		failed += !ok;
		found++;
	}
	free(entries);
	if (!found) {
		printf("not ok %u - %s: no inputs\n", ++*n_tests, folder);
		failed++;
	}
	return failed;
}

int main(int argc, char **argv)
{
	unsigned failed = 0, n_tests = 0;
	for (int i = 1; i < argc; i++)
		failed += replay_folder(argv[i], &n_tests);
	printf("1..%u\n", n_tests);
	return failed || !n_tests ? 1 : 0;
}
