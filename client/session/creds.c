/* SPDX-License-Identifier: Apache-2.0 */
/* Registry credentials of the user: docker's config.json and its helpers. Given only when asked for. */
#include "client/session/session_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "common/os/fs.h"
#include "common/os/proc.h"

#define CONFIG_MAX     (4u << 20)
#define HELPER_OUT_MAX (64u << 10)
#define HELPER_MS      30000
#define DOCKER_IO_KEY  "https://index.docker.io/v1/"

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static bool is_helper_name(const char *s)
{
	return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == strlen(s);
}

static int ask_helper(const char *helper, const char *server, char **ret_basic, bxc_err **err)
{
	if (!is_helper_name(helper))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "credential helper '%.64s' has a strange name", helper);
	BXC_AUTOFREE char *program = bxc_str_fmt("docker-credential-%s", helper);
	char *argv[] = {program, (char *)(uintptr_t)"get", NULL};
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(HELPER_OUT_MAX), errors = BXC_BUF_INIT(HELPER_OUT_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	bxc_proc_status status;
	int r = bxc_proc_run_capture(argv, bxc_slice_of(server, strlen(server)), HELPER_MS, &out, &errors, &status, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "credential helper '%s'", program);
	/* That is how helpers say that they know nothing of a server. */
	if (status.exit_code != 0)
		return 0;
	r = bxc_json_parse(bxc_buf_slice(&out), &j, err);
	explicit_bzero(out.data, out.len);
	if (r < 0)
		return bxc_err_wrap(err, r, "credential helper '%s'", program);
	const char *user = bxc_json_get_str(j, "Username", NULL), *secret = bxc_json_get_str(j, "Secret", NULL);
	if (user && secret)
		*ret_basic = bxc_str_fmt("%s:%s", user, secret);
	return 0;
}

static const bxc_json *auth_entry(const bxc_json *auths, const char *domain)
{
	const bxc_json *a = bxc_json_get(auths, domain);
	if (a)
		return a;
	/* Keys are written in several ways: with a scheme, with a path. */
	BXC_JSON_FOREACH (e, auths) {
		const char *k = bxc_json_key(e);
		const char *host = strstr(k, "://") ? strstr(k, "://") + 3 : k;
		size_t n = strcspn(host, "/");
		if (n == strlen(domain) && memcmp(host, domain, n) == 0)
			return e;
	}
	return NULL;
}

static int from_auths(const bxc_json *config, const char *server, char **ret_basic, bxc_err **err)
{
	const char *auth = bxc_json_get_str(auth_entry(bxc_json_get(config, "auths"), server), "auth", NULL);
	BXC_AUTOBUF bxc_buf plain = BXC_BUF_INIT(HELPER_OUT_MAX);
	if (bxc_str_empty(auth))
		return 0;
	int r = bxc_base64_decode(auth, HELPER_OUT_MAX, &plain, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "auths of '%s'", server);
	if (strchr(bxc_buf_text(&plain), ':'))
		*ret_basic = bxc_strdup(bxc_buf_text(&plain));
	explicit_bzero(plain.data, plain.len);
	return 0;
}

char *bxc_csess_docker_config(void)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	if (!bxc_str_empty(dir))
		return bxc_str_fmt("%s/config.json", dir);
	return bxc_str_empty(home) ? NULL : bxc_str_fmt("%s/.docker/config.json", home);
}

int bxc_csess_credentials(const char *config_path, const char *domain, char **ret_basic, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(CONFIG_MAX);
	BXC_AUTOJSON bxc_json *config = NULL;
	BXC_AUTOERR bxc_err *missing = NULL;
	*ret_basic = NULL;
	if (!config_path)
		return 0;
	int r = bxc_fs_read_file(AT_FDCWD, config_path, CONFIG_MAX, &text, &missing);
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(missing), r, "'%s'", config_path);
	r = bxc_json_parse(bxc_buf_slice(&text), &config, err);
	explicit_bzero(text.data, text.len);
	if (r < 0)
		return bxc_err_wrap(err, r, "'%s'", config_path);
	const char *server = bxc_str_eq(domain, "docker.io") ? DOCKER_IO_KEY : domain;
	const char *helper = bxc_json_get_str(bxc_json_get(config, "credHelpers"), domain, NULL);
	const char *store = bxc_json_get_str(config, "credsStore", NULL);
	if (helper)
		return ask_helper(helper, server, ret_basic, err);
	r = from_auths(config, server, ret_basic, err);
	if (r >= 0 && !*ret_basic && store)
		r = ask_helper(store, server, ret_basic, err);
	return r;
}

int serve_token(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const char *domain;
	char *basic = NULL;
	int r = bxc_json_need_str(name, "domain", &domain, err);
	if (r >= 0)
		r = bxc_csess_credentials(s->docker_config, domain, &basic, err);
	if (r < 0)
		return r;
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "basic", basic);
	char *text = bxc_json_print(j);
	r = bxc_chan_stream_write(st, text, strlen(text), s->cancel, err);
	wipe(text);
	wipe(basic);
	return r;
}
