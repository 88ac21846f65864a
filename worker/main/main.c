/* SPDX-License-Identifier: Apache-2.0 */
/* bxc-worker: puts the modules together, in the order of the layers, and takes them apart again. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/base/addr.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cli/exit.h"
#include "common/daemon/daemon.h"
#include "common/os/fs.h"
#include "common/os/sig.h"
#include "worker/gc/gc.h"
#include "worker/link/link.h"
#include "worker/main/fsck.h"
#include "worker/main/usage.h"

#define TOKEN_MAX 514u

static const char *const log_formats[] = {"auto", "text", "json", NULL};

static const bxc_cfg_key keys[] = {
	BXC_DAEMON_KEYS,
	{"state_dir", "BXC_WORKER_STATE_DIR", "state-dir", BXC_CFG_STRING, "/var/lib/bxc/worker", "folder of layers, blobs and cache mounts"},
	{"name", "BXC_WORKER_NAME", "name", BXC_CFG_STRING, NULL, "name in the cluster (default: the host's)"},
	{"coordinator", "BXC_COORDINATOR", "coordinator", BXC_CFG_STRING, "http://127.0.0.1:7650",
		"HTTP address of the coordinator: http://host:port, https://host:port or unix:PATH"},
	{"channel", "BXC_CHANNEL", "channel", BXC_CFG_STRING, NULL,
		"channel of the coordinator (default: as its API tells)"},
	{"token_file", "BXC_WORKER_TOKEN_FILE", "token-file", BXC_CFG_STRING, NULL, "file with the token of workers"},
	{"tls.ca", "BXC_TLS_CA", "tls-ca", BXC_CFG_STRING, NULL, "authority of the certificates of the coordinator and of other workers, PEM (default: those of the system)"},
	{"tls.cert", "BXC_TLS_CERT", "tls-cert", BXC_CFG_STRING, NULL, "certificate of this worker: shown to the coordinator and by the server of layers, which is HTTPS then, PEM"},
	{"tls.key", "BXC_TLS_KEY", "tls-key", BXC_CFG_STRING, NULL, "its key, PEM"},
	{"slots", "BXC_SLOTS", "slots", BXC_CFG_U64, "0", "steps at a time (0: one for each processor)", NULL, 0, 1024},
	{"peer.listen", "BXC_PEER_LISTEN", "peer-listen", BXC_CFG_STRING, "127.0.0.1:0",
		"address at which other workers fetch layers: host:port, or none; off loopback it needs tls.cert and tls.key"},
	{"peer.advertise", "BXC_PEER_ADVERTISE", "peer-advertise", BXC_CFG_STRING, NULL, "that address as other workers reach it: https://host:port, or http:// without tls.cert; the certificate must name it"},
	{"emulated", "BXC_EMULATED", "emulated", BXC_CFG_LIST, NULL, "platforms that run by emulation, e.g. linux/arm64"},
	{"space.max_used", "BXC_SPACE_MAX_USED", "space-max-used", BXC_CFG_BYTES, "0", "bytes of layers and blobs kept (0: any number)"},
	{"space.min_free", "BXC_SPACE_MIN_FREE", "space-min-free", BXC_CFG_BYTES, "0", "bytes the file system is to have free (0: none)"},
	{"space.reserved", "BXC_SPACE_RESERVED", "space-reserved", BXC_CFG_BYTES, "0", "bytes kept even if less is free than wished"},
	{"space.keep", "BXC_SPACE_KEEP", "space-keep", BXC_CFG_DURATION, "10m", "what was used within this time is kept"},
	{"space.interval", "BXC_SPACE_INTERVAL", "space-interval", BXC_CFG_DURATION, "1m", "time between looks at the space", NULL,
		BXC_NS_PER_S / 10},
	{"drain_timeout", "BXC_DRAIN_TIMEOUT", "drain-timeout", BXC_CFG_DURATION, "30s",
		"how long a worker that is terminated goes on with what it runs (0: not at all)"},
	{"embedded", NULL, "embedded", BXC_CFG_BOOL, "false", "part of one person's cluster: sockets below the state folder, no ports"},
};

struct worker {
	bxc_cfg *cfg;
	char *state_dir, *name;
	bxc_loop *loop;
	bxc_secret *token;
	bxc_tls_config *tls;
	bxc_http_client *http, *registry_http;
	bxc_content *content;
	bxc_snap *snap;
	bxc_exec *exec;
	bxc_agent *agent;
	bxc_wlink *link;
	char *url, *unix_path, *channel, *peer_url;
	char **platforms;
	bxc_pool *gc_pool;
	bxc_loop_timer *gc_timer;
	bxc_loop_timer *drain;       /* until it runs out, what runs may end; NULL: nothing ends it */
	usage_env usage;
	bxc_gc_limits limits;
	bxc_gc_result gc;
	bxc_err *gc_err;
	int dir_fd;
	int lock_fd;
	int code;
	bool told_ready;
};

static void quit(void *ud)
{
	struct worker *w = ud;
	bxc_loop_quit(w->loop);
}

/* SIGTERM lets it end what it runs, for a time; a second one, or SIGINT, does not wait. One person's cluster has no
 * other worker to go on with, and without its coordinator nobody takes what it ends. */
static void on_signal(int signo, void *ud)
{
	struct worker *w = ud;
	int64_t timeout_ns = bxc_cfg_duration_ns(w->cfg, "drain_timeout");
	bool wait = signo == SIGTERM && !w->drain && timeout_ns && w->told_ready && bxc_wlink_is_up(w->link) &&
		    !bxc_cfg_bool(w->cfg, "embedded");
	bxc_log(BXC_LOG_NOTICE, wait ? "worker.leaving" : "worker.stopping", "signal", signo == SIGINT ? "INT" : "TERM", NULL);
	if (!wait) {
		quit(w);
		return;
	}
	w->drain = bxc_loop_timer_new(w->loop, quit, w);
	bxc_loop_timer_arm(w->drain, timeout_ns);
	bxc_agent_leave(w->agent, quit, w);
}

static void on_up(void *ud)
{
	struct worker *w = ud;
	/* A coordinator that was restarted welcomes us again; the descriptor is not ours any more then. */
	if (!w->told_ready)
		bxc_daemon_ready(w->cfg, w->name);
	w->told_ready = true;
}

static void on_down(void *ud)
{
	struct worker *w = ud;
	if (w->drain)
		bxc_loop_quit(w->loop);
}

static void on_closed(const bxc_err *why, void *ud)
{
	struct worker *w = ud;
	if (why) {
		bxc_log_err(BXC_LOG_ERROR, "worker.channel_closed", why, NULL);
		w->code = BXC_EXIT_FAILED;
	}
	bxc_loop_quit(w->loop);
}

/* ---- space ---- */

static void gc_work(void *ud)
{
	struct worker *w = ud;
	bxc_ignore(bxc_gc_run(w->snap, w->content, w->dir_fd, &w->limits, bxc_clock_wall_ns(), &w->gc, &w->gc_err));
}

static void gc_done(void *ud)
{
	struct worker *w = ud;
	if (w->gc_err)
		bxc_log_err(BXC_LOG_WARN, "worker.gc_failed", w->gc_err, NULL);
	if (w->gc.freed_bytes) {
		BXC_AUTOFREE char *freed = bxc_str_fmt("%ju", (uintmax_t)w->gc.freed_bytes);
		BXC_AUTOFREE char *used = bxc_str_fmt("%ju", (uintmax_t)w->gc.used_bytes);
		bxc_log(BXC_LOG_INFO, "worker.gc", "freed_bytes", freed, "used_bytes", used, NULL);
	}
	if (w->gc.layers)
		bxc_agent_layers_gone(w->agent, w->gc.layers);
	bxc_gc_result_done(&w->gc);
	bxc_err_free(BXC_TAKE(w->gc_err));
	bxc_loop_timer_arm(w->gc_timer, bxc_cfg_duration_ns(w->cfg, "space.interval"));
}

static void on_gc_time(void *ud)
{
	struct worker *w = ud;
	if (bxc_pool_submit(w->gc_pool, gc_work, w->loop, gc_done, w, &w->gc_err) < 0)
		gc_done(w);
}

static void start_gc(struct worker *w)
{
	w->limits = (bxc_gc_limits){
		.max_used = bxc_cfg_bytes(w->cfg, "space.max_used"),
		.min_free = bxc_cfg_bytes(w->cfg, "space.min_free"),
		.reserved = bxc_cfg_bytes(w->cfg, "space.reserved"),
		.keep_ns = bxc_cfg_duration_ns(w->cfg, "space.keep"),
	};
	if (!bxc_gc_is_limited(&w->limits))
		return;
	w->gc_timer = bxc_loop_timer_new(w->loop, on_gc_time, w);
	bxc_loop_timer_arm(w->gc_timer, bxc_cfg_duration_ns(w->cfg, "space.interval"));
}

static int read_token(struct worker *w, bxc_err **err)
{
	const char *path = bxc_cfg_str(w->cfg, "token_file");
	if (!path)
		return 0;
	int r = bxc_fs_read_secret(AT_FDCWD, path, TOKEN_MAX, &w->token, err);
	return r < 0 ? bxc_err_wrap(err, r, "token file '%s'", path) : 0;
}

/* Where the channel is: asked of the API when it is not given. */
static int find_channel(struct worker *w, bxc_err **err)
{
	if (bxc_cfg_str(w->cfg, "channel")) {
		w->channel = bxc_strdup(bxc_cfg_str(w->cfg, "channel"));
		return 0;
	}
	BXC_AUTOFREE char *url = bxc_str_fmt("%s/v1/info", w->url);
	const bxc_http_request q = {.method = "GET", .url = url, .unix_path = w->unix_path, .bearer = w->token};
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(BXC_LIMIT_HTTP_HEADER);
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_http_start(w->http, &q, NULL, &resp, err);
	if (r >= 0 && bxc_http_status(resp) != 200)
		r = bxc_http_status_error(resp, err, "info");
	if (r >= 0)
		r = bxc_http_read_all(resp, &body, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&body), &j, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "coordinator '%s'", bxc_cfg_str(w->cfg, "coordinator"));
	const char *first = bxc_json_string(bxc_json_first(bxc_json_get(j, "channel")));
	if (!first)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the coordinator names no channel: give --channel");
	w->channel = bxc_strdup(first);
	return 0;
}

/* The address that others are told. With TLS the certificate must hold for it: better said now than by each of them. */
static int name_peer(struct worker *w, const char *listen_host, const bxc_tls_files *tls, bxc_err **err)
{
	const char *shown = bxc_cfg_str(w->cfg, "peer.advertise"), *scheme = tls ? "https://" : "http://";
	if (!shown && bxc_addr_is_wildcard(listen_host))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: '%s' does not say how other workers reach this one: give --peer-advertise",
			bxc_cfg_origin(w->cfg, "peer.listen"), listen_host);
	BXC_AUTOFREE char *own = bxc_addr_join(listen_host, bxc_content_port(w->content));
	BXC_AUTOFREE char *host = bxc_addr_host(shown ? shown : own);
	if (shown && (!host || !bxc_str_has_prefix(shown, scheme) || strpbrk(shown + strlen(scheme), "/?#")))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: '%s' is not of the form %shost:port%s",
			bxc_cfg_origin(w->cfg, "peer.advertise"), shown, scheme, tls ? "" : " (this worker has no --tls-cert)");
	w->peer_url = shown ? bxc_strdup(shown) : bxc_str_fmt("%s%s", scheme, own);
	int r = tls ? bxc_tls_check_server(tls, tls->ca_file, host, err) : 0;
	return bxc_err_wrap(err, r, "%s does not hold for other workers that dial '%s'", bxc_cfg_origin(w->cfg, "tls.cert"), w->peer_url);
}

static int serve_peers(struct worker *w, bxc_err **err)
{
	const char *listen = bxc_cfg_str(w->cfg, "peer.listen");
	if (bxc_cfg_bool(w->cfg, "embedded") || bxc_str_eq(listen, "none"))
		return 0;
	BXC_AUTOFREE char *host = NULL;
	uint16_t port;
	const bxc_tls_files tls = {.ca_file = bxc_cfg_str(w->cfg, "tls.ca"),
		.cert_file = bxc_cfg_str(w->cfg, "tls.cert"), .key_file = bxc_cfg_str(w->cfg, "tls.key")};
	int r = bxc_addr_split(listen, &host, &port, err);
	if (r >= 0)
		r = bxc_content_serve(w->content, host, port, tls.cert_file, tls.key_file, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "%s", bxc_cfg_origin(w->cfg, "peer.listen"));
	return name_peer(w, host, tls.cert_file ? &tls : NULL, err);
}

/* The steps' group belongs to the state folder, not to the name: a starting worker kills what its last run left there, and
 * workers of two clusters may share a machine and a name. */
static int name_group(const struct worker *w, char **ret, bxc_err **err)
{
	struct stat st;
	if (stat(w->state_dir, &st) < 0)
		return bxc_err_errno(err, errno, "state folder '%s'", w->state_dir);
	*ret = bxc_str_fmt("bxc/%s-%jx-%jx", w->name, (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return 0;
}

static int start(struct worker *w, bxc_err **err)
{
	bool embedded = bxc_cfg_bool(w->cfg, "embedded");
	if (geteuid() != 0)
		return bxc_err_set(err, BXC_PERMISSION_DENIED,
			"a worker needs root: it mounts overlay file systems and starts containers (rootless workers are not supported by this version)");
	const char *base = bxc_cfg_str(w->cfg, "state_dir");
	w->state_dir = embedded ? bxc_str_fmt("%s/worker", base) : bxc_strdup(base);
	char host[256] = "worker";
	bxc_ignore(gethostname(host, sizeof(host) - 1));
	w->name = bxc_strdup(bxc_cfg_str(w->cfg, "name") ? bxc_cfg_str(w->cfg, "name") : host);
	const char *coordinator = bxc_cfg_str(w->cfg, "coordinator");
	if (embedded) {
		w->unix_path = bxc_str_fmt("%s/run/http.sock", base);
		w->channel = bxc_str_fmt("ipc://%s/run/channel.sock", base);
		w->url = bxc_strdup("http://coordinator");
	} else if (bxc_str_has_prefix(coordinator, "unix:")) {
		w->unix_path = bxc_strdup(coordinator + strlen("unix:"));
		w->url = bxc_strdup("http://coordinator");
	} else {
		BXC_AUTOFREE char *far = bxc_addr_host(coordinator);
		if (!far || (!bxc_str_has_prefix(coordinator, "https://") && !bxc_addr_is_loopback(far)))
			return bxc_err_set(err, BXC_FAILED_PRECONDITION,
				"%s: '%s' would send the token of workers in the clear: off loopback it is https://host:port",
				bxc_cfg_origin(w->cfg, "coordinator"), coordinator);
		w->url = bxc_strdup(coordinator);
	}
	int r = bxc_fs_make_dirs(AT_FDCWD, w->state_dir, 0700, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder");
	r = bxc_fs_open_dir(AT_FDCWD, w->state_dir, &w->dir_fd, err);
	if (r >= 0)
		r = bxc_fs_lock(w->dir_fd, "worker.lock", &w->lock_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder '%s' (does another worker use it?)", w->state_dir);
	r = bxc_loop_new(&w->loop, err);
	if (r >= 0)
		r = read_token(w, err);
	const char *ca = bxc_cfg_str(w->cfg, "tls.ca"), *cert = bxc_cfg_str(w->cfg, "tls.cert"), *key = bxc_cfg_str(w->cfg, "tls.key");
	if (r >= 0) {
		const bxc_tls_files files = {.ca_file = ca, .cert_file = cert, .key_file = key};
		r = bxc_tls_config_new(false, &files, &w->tls, err);
	}
	if (r >= 0)
		r = bxc_http_client_new(&(bxc_http_client_config){.ca_file = ca}, &w->http, err);
	/* Registries are the world's: what the cluster trusts says nothing of them. */
	if (r >= 0)
		r = bxc_http_client_new(&(bxc_http_client_config){0}, &w->registry_http, err);
	/* No loop listens to signals yet, and nothing is there to be taken apart: they end it as they end any program. */
	if (r >= 0 && !w->channel) {
		bxc_sig_default(true);
		r = find_channel(w, err);
		bxc_sig_default(false);
	}
	if (r < 0)
		return r;
	BXC_AUTOFREE char *content_dir = bxc_str_fmt("%s/content", w->state_dir);
	r = bxc_fs_make_dirs(AT_FDCWD, content_dir, 0700, err);
	if (r < 0)
		return r;
	const bxc_content_config cc = {
		.dir = content_dir,
		.http = w->http,
		.registry_http = w->registry_http,
		.coordinator_url = w->url,
		.coordinator_unix = w->unix_path,
		.coordinator_token = w->token,
	};
	BXC_AUTOFREE char *snap_dir = bxc_str_fmt("%s/snapshots", w->state_dir);
	BXC_AUTOFREE char *run_dir = bxc_str_fmt("%s/run", w->state_dir);
	BXC_AUTOFREE char *sources_dir = bxc_str_fmt("%s/sources", w->state_dir);
	BXC_AUTOFREE char *group = NULL;
	r = bxc_fs_make_dirs(AT_FDCWD, sources_dir, 0700, err);
	if (r >= 0)
		r = name_group(w, &group, err);
	if (r < 0)
		return r;
	r = bxc_content_open(&cc, &w->content, err);
	if (r >= 0)
		r = serve_peers(w, err);
	if (r >= 0)
		r = bxc_snap_open(snap_dir, &w->snap, err);
	if (r >= 0) {
		const bxc_exec_config xc = {.snap = w->snap, .root = w->state_dir, .run_dir = run_dir, .cgroup_parent = group};
		r = bxc_exec_new(&xc, &w->exec, err);
	}
	if (r < 0)
		return r;
	bxc_platform native = bxc_platform_host();
	bxc_strv_push_take(&w->platforms, bxc_platform_str(&native));
	uint64_t slots = bxc_cfg_u64(w->cfg, "slots");
	const bxc_agent_config ac = {
		.loop = w->loop,
		.content = w->content,
		.snap = w->snap,
		.exec = w->exec,
		.sources_dir = sources_dir,
		.slots = (uint32_t)(slots ? slots : (uint64_t)BXC_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L)),
		.host = w->peer_url,
		.platforms = w->platforms,
		.emulated = bxc_cfg_list(w->cfg, "emulated"),
		.on_usage = usage_asked,
		.usage_ud = &w->usage,
	};
	r = bxc_pool_new("gc", 1, USAGE_QUEUE, &w->gc_pool, err);
	if (r >= 0)
		r = bxc_agent_new(&ac, &w->agent, err);
	if (r < 0)
		return r;
	w->usage = (usage_env){w->loop, w->gc_pool, w->snap, w->content, w->exec, w->agent, w->dir_fd};
	const bxc_wlink_config lc = {
		.loop = w->loop,
		.address = w->channel,
		.name = w->name,
		.token = w->token,
		.tls = w->tls,
		.agent = w->agent,
		.content = w->content,
		.on_up = on_up,
		.on_down = on_down,
		.on_closed = on_closed,
		.ud = w,
	};
	r = bxc_wlink_start(&lc, &w->link, err);
	if (r >= 0)
		start_gc(w);
	if (r >= 0)
		r = bxc_loop_on_signal(w->loop, SIGINT, on_signal, w, err);
	if (r >= 0)
		r = bxc_loop_on_signal(w->loop, SIGTERM, on_signal, w, err);
	if (r >= 0)
		bxc_log(BXC_LOG_NOTICE, "worker.started", "version", BXC_VERSION, "worker", w->name, "channel", w->channel, "peer_url",
			w->peer_url ? w->peer_url : "none", NULL);
	return r;
}

static void stop(struct worker *w)
{
	bxc_loop_timer_free(w->gc_timer);
	bxc_loop_timer_free(w->drain);
	bxc_pool_free(w->gc_pool);
	bxc_gc_result_done(&w->gc);
	bxc_err_free(w->gc_err);
	if (w->agent)
		bxc_agent_stop(w->agent);
	bxc_wlink_stop(w->link);
	bxc_exec_free(w->exec);
	bxc_content_close(w->content);
	bxc_snap_free(w->snap);
	bxc_http_client_free(w->http);
	bxc_http_client_free(w->registry_http);
	bxc_tls_config_unref(w->tls);
	bxc_secret_free(w->token);
	bxc_loop_free(w->loop);
	bxc_strv_free(w->platforms);
	free(w->url);
	free(w->unix_path);
	free(w->channel);
	free(w->peer_url);
	free(w->state_dir);
	free(w->name);
	bxc_cfg_free(w->cfg);
	bxc_cleanup_close(&w->dir_fd);
	bxc_cleanup_close(&w->lock_fd);
}

int main(int argc, char **argv)
{
	struct worker w = {.dir_fd = -1, .lock_fd = -1};
	int code;
	bool is_fsck = bxc_daemon_verb("fsck", &argc, &argv);
	if (bxc_daemon_setup("bxc-worker", "worker of a bxc build cluster", "/etc/bxc/worker.conf", keys, BXC_ARRAY_SIZE(keys), argc, argv,
		    &w.cfg, &code) <= 0)
		return code;
	if (is_fsck) {
		code = worker_fsck(w.cfg);
		bxc_cfg_free(w.cfg);
		return code;
	}
	/* What images say of modes is exact. */
	umask(0);
	BXC_AUTOERR bxc_err *err = NULL;
	int r = start(&w, &err);
	if (r >= 0)
		r = bxc_loop_run(w.loop, &err);
	if (r < 0) {
		bxc_log_err(BXC_LOG_ERROR, "worker.failed", err, NULL);
		w.code = BXC_EXIT_FAILED;
	}
	code = w.code;
	stop(&w);
	return code;
}
