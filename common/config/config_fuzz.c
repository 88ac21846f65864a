/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/str.h"
#include "common/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const levels[] = {"debug", "info", NULL};
static const bxc_cfg_key keys[] = {
	{"s", NULL, NULL, BXC_CFG_STRING, "x", "text"},
	{"level", NULL, NULL, BXC_CFG_STRING, "info", "choice", levels},
	{"a.b", NULL, NULL, BXC_CFG_BOOL, NULL, "bool"},
	{"n", NULL, NULL, BXC_CFG_U64, "5", "number", .min = 1, .max = 100},
	{"size", NULL, NULL, BXC_CFG_BYTES, "1k", "size"},
	{"t", NULL, NULL, BXC_CFG_DURATION, "1s", "time"},
	{"l", NULL, NULL, BXC_CFG_LIST, "a, b", "list"},
};
enum { N_KEYS = sizeof(keys) / sizeof(*keys) };

static char *printed(const bxc_cfg *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bxc_check(f);
	bxc_cfg_print(c, f);
	fclose(f);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = bxc_cfg_new(keys, N_KEYS);
	BXC_AUTOERR bxc_err *err = NULL;
	int r = bxc_cfg_load_text(c, "fuzz", bxc_slice_of(data, size), &err);
	if (r < 0) {
		bxc_check(bxc_err_code(err) == (bxc_code)-r);
		return 0;
	}
	/* What was read can be printed and read again, with the same values. */
	BXC_AUTOFREE char *text = printed(c);
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *again = bxc_cfg_new(keys, N_KEYS);
	if (strlen(text) > BXC_CFG_MAX_FILE)
		return 0;
	bxc_check(bxc_cfg_load_text(again, "fuzz", bxc_slice_of(text, strlen(text)), NULL) == 0);
	bxc_check(bxc_str_eq(bxc_cfg_str(c, "s"), bxc_cfg_str(again, "s")));
	bxc_check(bxc_cfg_u64(c, "n") == bxc_cfg_u64(again, "n"));
	bxc_check(bxc_strv_eq(bxc_cfg_list(c, "l"), bxc_cfg_list(again, "l")));
	return 0;
}
