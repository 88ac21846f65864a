/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expansion of any word with any options: whatever comes out stays within the budget, and words
 * split at blanks hold the same text as the whole does.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	BXC_AUTOFREE char *text = bxc_strndup((const char *)data + 1, size - 1);
	BXC_CLEANUP(df_env_freep) df_env *env = df_env_new();
	df_env_set(env, "V", "val");
	df_env_set(env, "E", "");
	df_env_set(env, "P", "a/b/c.tar.gz");
	df_env_set(env, "S", "two words");
	df_env_set(env, "L", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	uint64_t work = 1u << 20;
	df_word_opts o = {.escape = *data & 1 ? '`' : '\\',
		.raw_quotes = *data & 2,
		.raw_escapes = *data & 4,
		.skip_quotes = *data & 8,
		.skip_unset = *data & 16,
		.work = &work};
	BXC_AUTOFREE char *whole = NULL;
	BXC_AUTOSTRV char **words = NULL;
	int r = df_word(text, env, &o, &whole, NULL);
	bxc_check(r < 0 || strlen(whole) <= (1u << 20));
	uint64_t left = 1u << 20;
	o.work = &left;
	bxc_check((df_words(text, env, &o, &words, NULL) < 0) == (r < 0));
	size_t n = 0;
	for (char **w = words; w && *w; w++)
		n += strlen(*w);
	bxc_check(r < 0 || n <= strlen(whole));
	return 0;
}
