/* SPDX-License-Identifier: Apache-2.0 */
/* bxc-coordinator: puts the modules together, in the order of the layers, and takes them apart again. */
#include <fcntl.h>
#include <signal.h>

#include "common/base/addr.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/cli/exit.h"
#include "common/daemon/daemon.h"
#include "common/os/fs.h"
#include "coordinator/api/api.h"
#include "coordinator/gc/gc.h"
#include "coordinator/link/link.h"
#include "coordinator/main/fsck.h"

#define POOL_THREADS   16u           /* blocking waits on clients and registries */
#define POOL_QUEUE     4096u
#define IDLE_CHECK_NS  (5 * BXC_NS_PER_S)

static const char *const log_formats[] = {"auto", "text", "json", NULL};

static const bxc_cfg_key keys[] = {
	BXC_DAEMON_KEYS,
	{"state_dir", "BXC_STATE_DIR", "state-dir", BXC_CFG_STRING, "/var/lib/bxc/coordinator", "folder of everything that is kept"},
	{"state", "BXC_STATE_URL", "state", BXC_CFG_STRING, NULL, "record store (default: sqlite:<state-dir>/state.db)"},
	{"http.listen", "BXC_LISTEN", "listen", BXC_CFG_STRING, "127.0.0.1:7650", "address of the HTTP API: host:port or unix:PATH"},
	{"channel.listen", "BXC_CHANNEL_LISTEN", "channel-listen", BXC_CFG_LIST, NULL,
		"addresses of channels: tcp://host:port, tls+tcp://host:port, ipc://PATH (default: tcp://127.0.0.1:7651)"},
	{"channel.advertise", "BXC_CHANNEL_ADVERTISE", "channel-advertise", BXC_CFG_LIST, NULL,
		"addresses of channels as peers reach them (default: as they listen)"},
	{"tls.cert", "BXC_TLS_CERT", "tls-cert", BXC_CFG_STRING, NULL, "certificate chain of the API and of tls+tcp channels, PEM"},
	{"tls.key", "BXC_TLS_KEY", "tls-key", BXC_CFG_STRING, NULL, "its key, PEM"},
	{"tls.ca", "BXC_TLS_CA", "tls-ca", BXC_CFG_STRING, NULL, "authority of peers' certificates, PEM"},
	{"auth.client_token_file", "BXC_CLIENT_TOKEN_FILE", "client-token-file", BXC_CFG_STRING, NULL,
		"token of clients; made when absent (default: <state-dir>/client.token)"},
	{"auth.worker_token_file", "BXC_WORKER_TOKEN_FILE", "worker-token-file", BXC_CFG_STRING, NULL,
		"token of workers; made when absent (default: <state-dir>/worker.token)"},
	{"registry.mirrors", "BXC_REGISTRY_MIRRORS", "registry-mirror", BXC_CFG_LIST, NULL,
		"mirrors, tried first: registry=mirror, e.g. docker.io=127.0.0.1:5000"},
	{"registry.insecure", "BXC_REGISTRY_INSECURE", "insecure-registry", BXC_CFG_LIST, NULL,
		"registries spoken to without TLS or without verifying it"},
	{"entitlements", "BXC_ENTITLEMENTS", "allow-insecure-entitlement", BXC_CFG_LIST, NULL,
		"what builds may be granted when they ask for it: network.host, security.insecure"},
	{"step_timeout", "BXC_STEP_TIMEOUT", "step-timeout", BXC_CFG_DURATION, "0s",
		"how long the command of a RUN step may run, without the time that its inputs take; 0s: for ever"},
	{"no_worker_grace", "BXC_NO_WORKER_GRACE", "no-worker-grace", BXC_CFG_DURATION, "30s",
		"how long a step waits for a worker of its platform"},
	{"quarantine", "BXC_QUARANTINE", "quarantine", BXC_CFG_DURATION, "1h",
		"how long no build may run a step that took three workers down"},
	{"peer_grace", "BXC_PEER_GRACE", "peer-grace", BXC_CFG_DURATION, "20s",
		"how long a silent worker or client is waited for, from its last sign of life", NULL, 500 * BXC_NS_PER_MS},
	{"peer_heartbeat", "BXC_PEER_HEARTBEAT", "peer-heartbeat", BXC_CFG_DURATION, "0s",
		"a peer silent for so long is pinged, and cut off after three of it (0: a fifth of the grace, at most 10s)"},
	{"history.keep", "BXC_HISTORY_KEEP", "history-keep", BXC_CFG_DURATION, "168h", "builds that ended within that time are kept with their logs"},
	{"history.max", "BXC_HISTORY_MAX", "history-max", BXC_CFG_U64, "1000", "so many of the newest builds are kept whatever their age"},
	{"contexts.keep", "BXC_CONTEXTS_KEEP", "contexts-keep", BXC_CFG_DURATION, "168h",
		"files of contexts that no build used for so long go (0: they stay)"},
	{"contexts.max_used", "BXC_CONTEXTS_MAX_USED", "contexts-max-used", BXC_CFG_BYTES, "20g",
		"bytes of files of contexts kept; those used least recently go first (0: any number)"},
	{"idle_exit", "BXC_IDLE_EXIT", "idle-exit", BXC_CFG_DURATION, "0s", "leave after so long without builds and clients (0: never)"},
	{"embedded", NULL, "embedded", BXC_CFG_BOOL, "false",
		"part of one person's cluster: sockets below the state folder, no ports, leaves when idle"},
};

struct coordinator {
	bxc_cfg *cfg;
	char *state_dir;
	bxc_loop *loop;
	bxc_pool *pool;
	bxc_db *db;
	bxc_ev *events;
	bxc_wrk *workers;
	bxc_sess *sessions;
	bxc_auth *auth;
	bxc_blob_store *blobs;
	bxc_http_client *http;
	bxc_build *build;
	bxc_cgc *gc;
	bxc_tls_config *tls;
	bxc_clink *link;
	bxc_api *api;
	BXC_ARR(bxc_reg_host) hosts;
	BXC_ARR(char **) mirror_lists;
	char **channel_listen, **channel_advertise;
	char *cluster, *peer_token;
	int lock_fd;
	bxc_loop_timer *idle;
	int64_t idle_ns, idle_since_ns;
	bool is_idle;                /* it leaves because nobody needs it */
};

static void on_signal(int signo, void *ud)
{
	struct coordinator *c = ud;
	bxc_log(BXC_LOG_NOTICE, "coordinator.stopping", "signal", signo == SIGINT ? "INT" : "TERM", NULL);
	bxc_loop_quit(c->loop);
}

static void on_idle_check(void *ud)
{
	struct coordinator *c = ud;
	int64_t now = bxc_clock_mono_ns();
	if (bxc_build_n_live(c->build) || bxc_sess_count(c->sessions))
		c->idle_since_ns = now;
	if (now - c->idle_since_ns >= c->idle_ns) {
		bxc_log(BXC_LOG_NOTICE, "coordinator.idle", NULL);
		c->is_idle = true;
		bxc_clink_shutdown_workers(c->link);
		bxc_loop_quit(c->loop);
		return;
	}
	bxc_loop_timer_arm(c->idle, BXC_MIN(IDLE_CHECK_NS, c->idle_ns));
}

/* ---- registries ---- */

static bxc_reg_host *host_entry(struct coordinator *c, const char *domain)
{
	BXC_ARR_FOREACH (h, &c->hosts)
		if (bxc_str_eq(h->domain, domain))
			return h;
	bxc_reg_host *h = bxc_arr_push(&c->hosts);
	h->domain = bxc_strdup(domain);
	return h;
}

static int read_registries(struct coordinator *c, bxc_err **err)
{
	for (char *const *m = bxc_cfg_list(c->cfg, "registry.mirrors"); m && *m; m++) {
		const char *eq = strchr(*m, '=');
		if (!eq || eq == *m || !eq[1])
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: '%s' is not of the form registry=mirror",
				bxc_cfg_origin(c->cfg, "registry.mirrors"), *m);
		BXC_AUTOFREE char *domain = bxc_strndup(*m, (size_t)(eq - *m));
		bxc_reg_host *h = host_entry(c, domain);
		char **list = bxc_strv_dup(h->mirrors);
		bxc_strv_push(&list, eq + 1);
		*bxc_arr_push(&c->mirror_lists) = list;
		h->mirrors = list;
	}
	for (char *const *m = bxc_cfg_list(c->cfg, "registry.insecure"); m && *m; m++) {
		bxc_reg_host *h = host_entry(c, *m);
		h->insecure = true;
		h->plain_http = true;
	}
	return 0;
}

/* ---- start ---- */

static char *below(const struct coordinator *c, const char *name)
{
	return bxc_str_fmt("%s/%s", c->state_dir, name);
}

static int open_store(struct coordinator *c, bxc_err **err)
{
	int r = bxc_fs_make_dirs(AT_FDCWD, c->state_dir, 0700, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder");
	BXC_AUTOCLOSE int dir_fd = -1;
	r = bxc_fs_open_dir(AT_FDCWD, c->state_dir, &dir_fd, err);
	if (r >= 0)
		r = bxc_fs_lock(dir_fd, "coordinator.lock", &c->lock_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder '%s' (does another coordinator run?)", c->state_dir);
	BXC_AUTOFREE char *url = bxc_cfg_str(c->cfg, "state") ? bxc_strdup(bxc_cfg_str(c->cfg, "state"))
							      : bxc_str_fmt("sqlite:%s/state.db", c->state_dir);
	r = bxc_db_start(c->loop, url, &c->db, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "record store");
	BXC_AUTOFREE char *id = bxc_rand_hex(8);
	BXC_AUTOFREE char *token = bxc_rand_hex(32);
	r = bxc_state_setting_init(bxc_db_state(c->db), "cluster", id, &c->cluster, err);
	if (r >= 0)
		r = bxc_state_setting_init(bxc_db_state(c->db), "peer_token", token, &c->peer_token, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "record store");
	return bxc_blob_local_open(c->state_dir, &c->blobs, err);
}

static int read_tokens(struct coordinator *c, bxc_err **err)
{
	static const struct {
		const char *key, *name;
		unsigned scopes;
	} kinds[] = {
		{"auth.client_token_file", "client.token", BXC_AUTH_READ | BXC_AUTH_BUILD},
		{"auth.worker_token_file", "worker.token", BXC_AUTH_WORKER},
	};
	c->auth = bxc_auth_new();
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++) {
		BXC_AUTOFREE char *path = bxc_cfg_str(c->cfg, kinds[i].key) ? bxc_strdup(bxc_cfg_str(c->cfg, kinds[i].key))
									    : below(c, kinds[i].name);
		int r = bxc_auth_add_file(c->auth, path, kinds[i].scopes, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int start_build(struct coordinator *c, bxc_err **err)
{
	c->events = bxc_ev_new(c->db);
	c->workers = bxc_wrk_new();
	c->sessions = bxc_sess_new();
	int r = bxc_pool_new("blocking", POOL_THREADS, POOL_QUEUE, &c->pool, err);
	if (r >= 0)
		r = bxc_http_client_new(&(bxc_http_client_config){0}, &c->http, err);
	if (r < 0)
		return r;
	/* Whoever starts an embedded cluster is root on this machine as its steps would be. */
	static char host[] = "network.host", insecure[] = "security.insecure";
	static char *const all[] = {host, insecure, NULL};
	const bxc_build_config bc = {
		.loop = c->loop,
		.pool = c->pool,
		.db = c->db,
		.events = c->events,
		.workers = c->workers,
		.sessions = c->sessions,
		.blobs = c->blobs,
		.http = c->http,
		.hosts = c->hosts.v,
		.n_hosts = c->hosts.n,
		.peer_grace_ns = bxc_cfg_duration_ns(c->cfg, "peer_grace"),
		.entitlements = bxc_cfg_bool(c->cfg, "embedded") ? all : bxc_cfg_list(c->cfg, "entitlements"),
		.cluster = c->cluster,
		.quarantine_ns = bxc_cfg_duration_ns(c->cfg, "quarantine"),
		.step_timeout_ns = bxc_cfg_duration_ns(c->cfg, "step_timeout"),
		.no_worker_grace_ns = bxc_cfg_duration_ns(c->cfg, "no_worker_grace"),
	};
	c->build = bxc_build_new(&bc);
	return bxc_build_recover(c->build, err);
}

static int64_t oldest_build(void *ud)
{
	const struct coordinator *c = ud;
	return bxc_build_oldest_ns(c->build);
}

static void start_gc(struct coordinator *c)
{
	const bxc_cgc_config gc = {
		.loop = c->loop,
		.pool = c->pool,
		.db = c->db,
		.blobs = c->blobs,
		.oldest_build_ns = oldest_build,
		.ud = c,
		.policy = {
			.history_keep_ns = bxc_cfg_duration_ns(c->cfg, "history.keep"),
			.history_max = bxc_cfg_u64(c->cfg, "history.max"),
			.blobs_keep_ns = bxc_cfg_duration_ns(c->cfg, "contexts.keep"),
			.blobs_max_used = bxc_cfg_bytes(c->cfg, "contexts.max_used"),
		},
	};
	c->gc = bxc_cgc_new(&gc);
}

/* One setting is enough: silence is noticed at three fifths of the grace, the rest is for coming back. */
static int read_heartbeat(const struct coordinator *c, int64_t grace_ns, int64_t *ret, bxc_err **err)
{
	int64_t beat = bxc_cfg_duration_ns(c->cfg, "peer_heartbeat");
	if (!beat)
		beat = BXC_MIN(grace_ns / 5, 10 * BXC_NS_PER_S);
	if (3 * beat > grace_ns)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: three heartbeats are longer than peer_grace: a silent peer would not be noticed in time",
			bxc_cfg_origin(c->cfg, "peer_heartbeat"));
	*ret = beat;
	return 0;
}

static int start_link(struct coordinator *c, bxc_err **err)
{
	int64_t grace = bxc_cfg_duration_ns(c->cfg, "peer_grace"), beat = 0;
	const char *cert = bxc_cfg_str(c->cfg, "tls.cert"), *key = bxc_cfg_str(c->cfg, "tls.key");
	int r = read_heartbeat(c, grace, &beat, err);
	if (r < 0)
		return r;
	if (cert || key) {
		const bxc_tls_files files = {.ca_file = bxc_cfg_str(c->cfg, "tls.ca"), .cert_file = cert, .key_file = key};
		r = bxc_tls_config_new(true, &files, &c->tls, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "TLS");
	}
	const bxc_clink_config lc = {
		.loop = c->loop,
		.addresses = (const char *const *)c->channel_listen,
		.n_addresses = bxc_strv_len(c->channel_listen),
		.tls = c->tls,
		.auth = c->auth,
		.build = c->build,
		.workers = c->workers,
		.sessions = c->sessions,
		.events = c->events,
		.peer_token = c->peer_token,
		.hosts = c->hosts.v,
		.n_hosts = c->hosts.n,
		.grace_ns = grace,
		.heartbeat_ns = beat,
	};
	r = bxc_clink_start(&lc, &c->link, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "channels");
	/* What is told to peers: with the ports that were really taken. */
	for (size_t i = 0; !bxc_cfg_list(c->cfg, "channel.advertise") && c->channel_listen[i]; i++) {
		char *colon = strrchr(c->channel_listen[i], ':');
		if (bxc_str_has_suffix(c->channel_listen[i], ":0"))
			bxc_strv_pushf(&c->channel_advertise, "%.*s:%u", (int)(colon - c->channel_listen[i]), c->channel_listen[i],
				bxc_clink_port(c->link, i));
		else
			bxc_strv_push(&c->channel_advertise, c->channel_listen[i]);
	}
	return 0;
}

static int start_api(struct coordinator *c, const char *listen, bxc_err **err)
{
	BXC_AUTOFREE char *host = NULL;
	bxc_api_config ac = {
		.loop = c->loop,
		.db = c->db,
		.events = c->events,
		.workers = c->workers,
		.build = c->build,
		.blobs = c->blobs,
		.auth = c->auth,
		.cluster = c->cluster,
		.channel_addresses = c->channel_advertise,
	};
	if (bxc_str_has_prefix(listen, "unix:")) {
		ac.unix_path = listen + strlen("unix:");
	} else {
		int r = bxc_addr_split(listen, &host, &ac.port, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "%s", bxc_cfg_origin(c->cfg, "http.listen"));
		ac.host = host;
		if (c->tls) {
			ac.tls_cert_file = bxc_cfg_str(c->cfg, "tls.cert");
			ac.tls_key_file = bxc_cfg_str(c->cfg, "tls.key");
		} else if (!bxc_addr_is_loopback(host)) {
			return bxc_err_set(err, BXC_FAILED_PRECONDITION,
				"http.listen: '%s' is not a loopback address: give --tls-cert and --tls-key", host);
		}
	}
	return bxc_api_start(&ac, &c->api, err);
}

static int start(struct coordinator *c, bxc_err **err)
{
	bool embedded = bxc_cfg_bool(c->cfg, "embedded");
	c->state_dir = bxc_strdup(bxc_cfg_str(c->cfg, "state_dir"));
	c->idle_ns = bxc_cfg_duration_ns(c->cfg, "idle_exit");
	if (embedded && !c->idle_ns)
		c->idle_ns = 600 * BXC_NS_PER_S;
	BXC_AUTOFREE char *run = below(c, "run");
	BXC_AUTOFREE char *listen = embedded ? bxc_str_fmt("unix:%s/http.sock", run) : bxc_strdup(bxc_cfg_str(c->cfg, "http.listen"));
	if (embedded) {
		int r = bxc_fs_make_dirs(AT_FDCWD, run, 0700, err);
		if (r < 0)
			return r;
		bxc_strv_pushf(&c->channel_listen, "ipc://%s/channel.sock", run);
	} else if (bxc_cfg_list(c->cfg, "channel.listen")) {
		c->channel_listen = bxc_strv_dup(bxc_cfg_list(c->cfg, "channel.listen"));
	} else {
		bxc_strv_push(&c->channel_listen, "tcp://127.0.0.1:7651");
	}
	c->channel_advertise = bxc_strv_dup(bxc_cfg_list(c->cfg, "channel.advertise"));
	int r = bxc_loop_new(&c->loop, err);
	if (r >= 0)
		r = read_registries(c, err);
	if (r >= 0)
		r = open_store(c, err);
	if (r >= 0)
		r = read_tokens(c, err);
	if (r >= 0)
		r = start_build(c, err);
	if (r >= 0)
		r = start_link(c, err);
	if (r >= 0)
		r = start_api(c, listen, err);
	if (r >= 0)
		r = bxc_loop_on_signal(c->loop, SIGINT, on_signal, c, err);
	if (r >= 0)
		r = bxc_loop_on_signal(c->loop, SIGTERM, on_signal, c, err);
	if (r < 0)
		return r;
	start_gc(c);
	if (c->idle_ns) {
		c->idle_since_ns = bxc_clock_mono_ns();
		c->idle = bxc_loop_timer_new(c->loop, on_idle_check, c);
		bxc_loop_timer_arm(c->idle, BXC_MIN(IDLE_CHECK_NS, c->idle_ns));
	}
	BXC_AUTOFREE char *at = bxc_str_has_prefix(listen, "unix:") ? bxc_strdup(listen)
		: bxc_str_fmt("%.*s:%u", (int)(strrchr(listen, ':') - listen), listen, bxc_api_port(c->api));
	BXC_AUTOFREE char *channels = bxc_strv_join(c->channel_advertise, ",");
	bxc_log(BXC_LOG_NOTICE, "coordinator.ready", "version", BXC_VERSION, "listen", at, "channels", channels, "state", c->state_dir, NULL);
	bxc_daemon_ready(c->cfg, at);
	return 0;
}

/* Two phases: everything that calls into the loop stops first, then memory goes from the top down. */
static void stop(struct coordinator *c)
{
	/* Builds of a cluster go on after the next start; one person's own ends with its coordinator. */
	bool will_be_back = c->build && !bxc_cfg_bool(c->cfg, "embedded") && !c->is_idle;
	if (will_be_back)
		bxc_build_stop(c->build);
	bxc_api_stop(c->api);
	bxc_clink_stop(c->link, will_be_back);
	bxc_pool_free(c->pool);
	bxc_db_stop(c->db);
	bxc_cgc_free(c->gc);
	bxc_build_free(c->build);
	bxc_ev_free(c->events);
	bxc_sess_free(c->sessions);
	bxc_wrk_free(c->workers);
	bxc_http_client_free(c->http);
	bxc_blob_store_free(c->blobs);
	bxc_auth_free(c->auth);
	bxc_tls_config_unref(c->tls);
	if (c->idle)
		bxc_loop_timer_free(c->idle);
	bxc_loop_free(c->loop);
	BXC_ARR_FOREACH (h, &c->hosts)
		free((void *)(uintptr_t)h->domain);
	bxc_arr_done(&c->hosts);
	BXC_ARR_FOREACH (l, &c->mirror_lists)
		bxc_strv_free(*l);
	bxc_arr_done(&c->mirror_lists);
	bxc_strv_free(c->channel_listen);
	bxc_strv_free(c->channel_advertise);
	free(c->cluster);
	free(c->peer_token);
	free(c->state_dir);
	bxc_cfg_free(c->cfg);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
}

int main(int argc, char **argv)
{
	struct coordinator c = {.lock_fd = -1};
	int code;
	bool is_fsck = bxc_daemon_verb("fsck", &argc, &argv);
	if (bxc_daemon_setup("bxc-coordinator", "coordinator of a bxc build cluster", "/etc/bxc/coordinator.conf", keys,
		    BXC_ARRAY_SIZE(keys), argc, argv, &c.cfg, &code) <= 0)
		return code;
	if (is_fsck) {
		code = coordinator_fsck(c.cfg);
		bxc_cfg_free(c.cfg);
		return code;
	}
	BXC_AUTOERR bxc_err *err = NULL;
	int r = start(&c, &err);
	if (r >= 0)
		r = bxc_loop_run(c.loop, &err);
	if (r < 0)
		bxc_log_err(BXC_LOG_ERROR, "coordinator.failed", err, NULL);
	stop(&c);
	return r < 0 ? BXC_EXIT_FAILED : BXC_EXIT_OK;
}
