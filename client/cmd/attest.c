/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be stated about a result, as buildx reads it: --attest, --provenance and --sbom. */
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* The default of buildx: short, and only beside images that are pushed. */
#define DEFAULT_PROVENANCE "type=provenance,mode=min,inline-only=true"

static int add(bxc_json *attests, const char *spec, bxc_err **err)
{
	BXC_AUTOSTRV char **fields = NULL;
	BXC_AUTOJSON bxc_json *o = bxc_json_object();
	int r = csv_split(spec, &fields, err);
	if (r < 0)
		return r;
	for (char **f = fields; *f; f++) {
		const char *value = csv_cut_value(*f);
		if (!value)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid value '%s': expected key=value", *f);
		bxc_json_set_str(o, *f, value);
	}
	BXC_AUTOFREE char *type = bxc_strdup(bxc_json_get_str(o, "type", NULL));
	if (!type)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "attestation type not specified");
	if (bxc_json_get(attests, type))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "duplicate attestation field %s", type);
	bool disabled = false;
	const char *text = bxc_json_get_str(o, "disabled", NULL);
	if (text && bxc_str_to_bool(text, &disabled, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "disabled: expected true or false, not '%s'", text);
	if (!bxc_str_eq(type, "provenance") && !disabled)
		return bxc_err_set(err, BXC_UNIMPLEMENTED, "attestations of type '%s' are not supported by this version of bxc", type);
	bxc_json_del(o, "type");
	bxc_json_set_take(attests, type, BXC_TAKE(o));
	return 0;
}

/* "true", "false", or the fields of --attest without the type. */
static int add_short(const bxc_cli *cli, const char *type, bxc_json *attests, bxc_err **err)
{
	const char *v = bxc_cli_str(cli, type);
	bool on;
	if (bxc_str_empty(v))
		return 0;
	BXC_AUTOFREE char *spec = bxc_str_to_bool(v, &on, NULL) >= 0 ? bxc_str_fmt("type=%s,disabled=%s", type, on ? "false" : "true")
								       : bxc_str_fmt("type=%s,%s", type, v);
	return bxc_err_wrap(err, add(attests, spec, err), "--%s", type);
}

int attests_read(const bxc_cli *cli, bxc_json **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *attests = bxc_json_object();
	int r = 0;
	for (char *const *s = bxc_cli_list(cli, "attest"); s && *s; s++) {
		r = add(attests, *s, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "--attest");
	}
	r = add_short(cli, "provenance", attests, err);
	if (r >= 0)
		r = add_short(cli, "sbom", attests, err);
	if (r < 0)
		return r;
	bool none = false;
	const char *env = getenv("BUILDX_NO_DEFAULT_ATTESTATIONS");
	if (!bxc_str_empty(env) && bxc_str_to_bool(env, &none, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "BUILDX_NO_DEFAULT_ATTESTATIONS: expected true or false, not '%s'", env);
	if (!none && !bxc_json_get(attests, "provenance")) {
		r = add(attests, DEFAULT_PROVENANCE, err);
		if (r < 0)
			return r;
	}
	*ret = BXC_TAKE(attests);
	return 0;
}
