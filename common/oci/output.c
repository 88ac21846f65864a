/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of outputs of builds, with the words that BuildKit has for wrong ones. */
#include "common/base/mem.h"
#include "common/oci/oci.h"

int bxc_output_bool(const bxc_json *attrs, const char *key, bool fallback, bool *ret, bxc_err **err)
{
	const char *v = bxc_json_get_str(attrs, key, NULL);
	*ret = v ? true : fallback;
	if (bxc_str_empty(v) || bxc_str_to_bool(v, ret, NULL) >= 0)
		return 0;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "non-bool value specified for %s", key);
}

int bxc_output_names(const bxc_json *attrs, char ***ret, bxc_err **err)
{
	const char *text = bxc_json_get_str(attrs, "name", NULL);
	if (bxc_str_empty(text))
		return 0;
	BXC_AUTOSTRV char **parts = bxc_strv_split(text, ',');
	BXC_AUTOSTRV char **names = NULL;
	for (char **p = parts; *p; p++) {
		BXC_AUTOREF bxc_ref ref = {0};
		if (!**p)
			continue;
		int r = bxc_ref_parse(*p, &ref, err);
		if (r < 0)
			return r;
		bxc_strv_push_take(&names, bxc_ref_str(&ref));
	}
	*ret = BXC_TAKE(names);
	return 0;
}

int bxc_output_compression(
	const bxc_json *attrs, bxc_compression *ret, int *ret_level, bxc_err **err)
{
	const char *name = bxc_json_get_str(attrs, "compression", NULL);
	const char *level = bxc_json_get_str(attrs, "compression-level", NULL);
	*ret = name ? bxc_compression_parse(name) : BXC_COMPRESSION_GZIP;
	*ret_level = 0;
	if (bxc_str_eq(name, "estargz"))
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"compression 'estargz' is not supported by this version of bxc (gzip, zstd, "
			"uncompressed)");
	if (*ret == BXC_COMPRESSION_UNKNOWN)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unsupported layer compression type '%.32s' (gzip, zstd, uncompressed)",
			name);
	if (!level)
		return 0;
	uint64_t n;
	int r = bxc_str_to_u64(level, 0, *ret == BXC_COMPRESSION_ZSTD ? 22 : 9, &n, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "compression-level");
	*ret_level = (int)n;
	return 0;
}
