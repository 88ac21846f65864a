/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's thread: it alone drives the multi handle and all easy handles. Callers hand it
 * commands through a queue and curl_multi_wakeup; it answers through the response object.
 */
#include "common/http/http_internal.h"

#include <signal.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define CONNECT_TIMEOUT_NS (10 * BXC_NS_PER_S)
#define STALL_TIMEOUT_NS   (60 * BXC_NS_PER_S)
#define MAX_PER_HOST	   8L
#define MAX_IDLE_HANDLES   16u
#define MAX_WAIT_MS	   60000

typedef struct command {
	bxc_http_response *t;
	unsigned cmds;
} command;
typedef BXC_ARR(command) command_list;

void bxc_http__command(bxc_http_response *t, enum http_cmd cmd)
{
	bxc_http_client *c = t->client;
	pthread_mutex_lock(&c->lock);
	if (t->cmds == 0)
		*bxc_arr_push(&c->queue) = t;
	t->cmds |= (unsigned)cmd;
	pthread_mutex_unlock(&c->lock);
	curl_multi_wakeup(c->multi);
}

static void unqueue(bxc_http_client *c, bxc_http_response *t)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; t->cmds && i < c->queue.n; i++) {
		if (c->queue.v[i] == t) {
			bxc_arr_remove(&c->queue, i);
			break;
		}
	}
	t->cmds = 0;
	pthread_mutex_unlock(&c->lock);
}

/* The transfer is over: libcurl lets go of it, its waiters wake. The response may be gone
 * afterwards. Owns err. */
static void finish(bxc_http_client *c, bxc_http_response *t, bxc_err *err)
{
	if (t->easy) {
		curl_multi_remove_handle(c->multi, t->easy);
		if (!err)
			bxc_http__set_ready(t);
		curl_easy_reset(t->easy);
		if (c->idle.n < MAX_IDLE_HANDLES)
			*bxc_arr_push(&c->idle) = BXC_TAKE(t->easy);
		else
			curl_easy_cleanup(BXC_TAKE(t->easy));
	}
	for (size_t i = 0; i < c->active.n; i++) {
		if (c->active.v[i] == t) {
			bxc_arr_remove(&c->active, i);
			break;
		}
	}
	pthread_mutex_lock(&t->lock);
	unqueue(c, t);
	t->is_finished = true;
	t->err = err;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static bxc_err *make_err(bxc_code code, const char *text)
{
	bxc_err *e = NULL;
	bxc_err_set(&e, code, "%s", text);
	return e;
}

static void start(bxc_http_client *c, bxc_http_response *t)
{
	CURL *easy = c->idle.n ? c->idle.v[--c->idle.n] : curl_easy_init();
	*bxc_arr_push(&c->active) = t;
	if (!easy) {
		finish(c, t, make_err(BXC_RESOURCE_EXHAUSTED, "no memory for an HTTP transfer"));
		return;
	}
	t->easy = easy;
	bxc_http__setup(c, t, easy);
	CURLMcode m = curl_multi_add_handle(c->multi, easy);
	if (m != CURLM_OK)
		finish(c, t, make_err(BXC_INTERNAL, curl_multi_strerror(m)));
}

static void run_command(bxc_http_client *c, const command *cmd)
{
	bxc_http_response *t = cmd->t;
	if (cmd->cmds & HTTP_CMD_CANCEL) {
		finish(c, t, make_err(BXC_CANCELED, "canceled"));
		return;
	}
	if (cmd->cmds & HTTP_CMD_ABORT) {
		finish(c, t, make_err(BXC_CANCELED, "the transfer was given up"));
		return;
	}
	if (cmd->cmds & HTTP_CMD_START)
		start(c, t);
	/* A start that failed has finished the transfer, but then nobody could have read from it
	 * yet. */
	if (cmd->cmds & HTTP_CMD_RESUME) {
		pthread_mutex_lock(&t->lock);
		bool resume = t->is_paused;
		t->is_paused = false;
		pthread_mutex_unlock(&t->lock);
		/* May call the write callback at once, which takes the lock. */
		if (resume)
			curl_easy_pause(t->easy, CURLPAUSE_CONT);
	}
}

/* False when the client is being freed. */
static bool run_commands(bxc_http_client *c)
{
	command_list list = {0};
	pthread_mutex_lock(&c->lock);
	bool go_on = !c->is_stopping;
	BXC_ARR_FOREACH (t, &c->queue) {
		*bxc_arr_push(&list) = (command){*t, (*t)->cmds};
		(*t)->cmds = 0;
	}
	c->queue.n = 0;
	pthread_mutex_unlock(&c->lock);
	/* One entry for each response, and only its own command ends it: no entry is stale. */
	BXC_ARR_FOREACH (cmd, &list)
		run_command(c, cmd);
	bxc_arr_done(&list);
	return go_on;
}

static void reap(bxc_http_client *c)
{
	CURLMsg *m;
	int left;
	while ((m = curl_multi_info_read(c->multi, &left))) {
		char *p = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode rc = m->data.result;
		bxc_check(curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p) == CURLE_OK && p);
		bxc_http_response *t = (void *)p;
		finish(c, t, bxc_http__error_of(t, rc));
	}
}

/* Deadlines are ours: libcurl's do not count while a transfer waits for a connection. */
static int expire(bxc_http_client *c)
{
	int64_t now = bxc_clock_mono_ns(), next = now + MAX_WAIT_MS * BXC_NS_PER_MS;
	for (size_t i = c->active.n; i-- > 0;) {
		bxc_http_response *t = c->active.v[i];
		if (!t->deadline_ns)
			continue;
		if (t->deadline_ns <= now) {
			bxc_err *e = NULL;
			bxc_err_set(&e, BXC_DEADLINE_EXCEEDED,
				"no answer of '%s' within the time allowed", t->peer);
			finish(c, t, e);
		} else {
			next = BXC_MIN(next, t->deadline_ns);
		}
	}
	return (int)((next - now + BXC_NS_PER_MS - 1) / BXC_NS_PER_MS);
}

static void *client_main(void *arg)
{
	bxc_http_client *c = arg;
	while (run_commands(c)) {
		int running;
		curl_multi_perform(c->multi, &running);
		reap(c);
		curl_multi_poll(c->multi, NULL, 0, expire(c), NULL);
	}
	while (c->active.n)
		finish(c, c->active.v[c->active.n - 1],
			make_err(BXC_CANCELED, "the HTTP client was closed"));
	return NULL;
}

static void global_init(void)
{
	bxc_check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static void client_destroy(bxc_http_client *c)
{
	BXC_ARR_FOREACH (e, &c->idle)
		curl_easy_cleanup(*e);
	bxc_arr_done(&c->idle);
	bxc_arr_done(&c->active);
	bxc_arr_done(&c->queue);
	if (c->multi)
		curl_multi_cleanup(c->multi);
	pthread_mutex_destroy(&c->lock);
	free(c->user_agent);
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	free(c);
}

int bxc_http_client_new(const bxc_http_client_config *config, bxc_http_client **ret, bxc_err **err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	if (!config->cert_file != !config->key_file)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a client certificate needs both its file and its key");
	pthread_once(&once, global_init);
	bxc_http_client *c = bxc_calloc(1, sizeof(*c));
	c->user_agent = bxc_strdup(config->user_agent ? config->user_agent : "bxc/" BXC_VERSION);
	c->ca_file = bxc_strdup(config->ca_file);
	c->cert_file = bxc_strdup(config->cert_file);
	c->key_file = bxc_strdup(config->key_file);
	c->connect_timeout_ns =
		config->connect_timeout_ns ? config->connect_timeout_ns : CONNECT_TIMEOUT_NS;
	c->stall_timeout_ns =
		config->stall_timeout_ns ? config->stall_timeout_ns : STALL_TIMEOUT_NS;
	bxc_check(pthread_mutex_init(&c->lock, NULL) == 0);
	c->multi = curl_multi_init();
	bxc_check(c->multi != NULL);
	curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, MAX_PER_HOST);
	/* Signals are the program's business: this thread takes none. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int e = pthread_create(&c->thread, NULL, client_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e != 0) {
		client_destroy(c);
		return bxc_err_errno(err, e, "start the HTTP thread");
	}
	pthread_setname_np(c->thread, "bxc-http");
	*ret = c;
	return 0;
}

void bxc_http_client_free(bxc_http_client *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->is_stopping = true;
	pthread_mutex_unlock(&c->lock);
	curl_multi_wakeup(c->multi);
	pthread_join(c->thread, NULL);
	client_destroy(c);
}
