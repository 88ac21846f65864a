/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bxc as a plugin of docker's command line: a file named docker-NAME in ~/.docker/cli-plugins is
 * asked what it is by "docker-cli-plugin-metadata", and then run with all that was given to docker:
 * docker's own flags, NAME, and what came behind it. Named docker-buildx it stands in for buildx.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/str.h"

#define PREFIX "docker-"

/* Flags of docker itself: those with a value, and those without. */
static const char *const with_value[] = {"--config", "--context", "-c", "--host", "-H",
	"--log-level", "-l", "--tlscacert", "--tlscert", "--tlskey", NULL};
static const char *const without[] = {"--debug", "-D", "--tls", "--tlsverify", NULL};

static bool is_one_of(const char *arg, size_t n, const char *const *names)
{
	for (; *names; names++)
		if (strlen(*names) == n && strncmp(arg, *names, n) == 0)
			return true;
	return false;
}

const char *bxc_cmd_plugin_name(const char *program)
{
	const char *slash = strrchr(program, '/');
	const char *base = slash ? slash + 1 : program;
	return bxc_str_has_prefix(base, PREFIX) && base[strlen(PREFIX)] ? base + strlen(PREFIX)
									: NULL;
}

int bxc_cmd_plugin_metadata(FILE *f)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "SchemaVersion", "0.1.0");
	bxc_json_set_str(j, "Vendor", "bxc");
	bxc_json_set_str(j, "Version", "v" BXC_VERSION);
	bxc_json_set_str(j, "ShortDescription", bxc_cmd_root.summary);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	fprintf(f, "%s\n", text);
	return BXC_EXIT_OK;
}

int bxc_cmd_plugin_args(const char *name, int argc, char **argv, char ***ret, bxc_err **err)
{
	BXC_AUTOSTRV char **v = NULL;
	bxc_strv_push(&v, bxc_cmd_root.name);
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		const char *arg = argv[i];
		size_t n = strcspn(arg, "=");
		if (is_one_of(arg, n, with_value)) {
			const char *value = arg[n] ? arg + n + 1 : i + 1 < argc ? argv[++i] : "";
			/* Where credentials are; the others say which dockerd, and none is asked.
			 */
			if (strncmp(arg, "--config", n) == 0 && n == strlen("--config"))
				setenv("DOCKER_CONFIG", value, 1);
		} else if (is_one_of(arg, n, without)) {
			if (bxc_str_eq(arg, "-D") || bxc_str_eq(arg, "--debug"))
				bxc_strv_push(&v, "--debug");
		} else {
			break;
		}
	}
	if (i >= argc || !bxc_str_eq(argv[i], name))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a plugin of docker is run as 'docker %s ...': by itself this program is "
			"called %s",
			name, bxc_cmd_root.name);
	for (i++; i < argc; i++)
		bxc_strv_push(&v, argv[i]);
	*ret = BXC_TAKE(v);
	return 0;
}
