/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step says, kept until the coordinator has forgotten the step. The coordinator may restart
 * meanwhile: the step goes on, and whoever adopts it is told everything from the start. Messages
 * go in order; whoever adds one while another thread is sending leaves it to that thread.
 */
#include "worker/agent/agent_internal.h"

#include <poll.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* As much as the channel holds: what is older has left it. */
#define KEPT_MAX (64u << 20)

static void wake(void *ud)
{
	spool *s = ud;
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->lock);
}

void spool_init(spool *s)
{
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->room, NULL);
	s->first = 1;
	s->is_heard = true;
}

void spool_done(spool *s)
{
	BXC_ARR_FOREACH (t, &s->texts)
		free(*t);
	bxc_arr_done(&s->texts);
	pthread_cond_destroy(&s->room);
	pthread_mutex_destroy(&s->lock);
}

/* Needs the lock. What was sent long ago goes. */
static void shorten(spool *s)
{
	size_t n = 0;
	for (; n < s->sent && s->bytes > KEPT_MAX; n++) {
		s->bytes -= strlen(s->texts.v[n]);
		free(s->texts.v[n]);
	}
	if (n == 0)
		return;
	memmove(s->texts.v, s->texts.v + n, (s->texts.n - n) * sizeof(*s->texts.v));
	s->texts.n -= n;
	s->sent -= n;
	s->first += n;
}

/* False: not now, the coordinator does not listen or another thread does it. */
static bool next(spool *s, char **ret_text, uint64_t *ret_turn)
{
	pthread_mutex_lock(&s->lock);
	bool go = s->is_heard && !s->is_sending && s->sent < s->texts.n;
	if (go) {
		s->is_sending = true;
		/* A copy: the list may be shortened while it is being sent. */
		*ret_text = bxc_strdup(s->texts.v[s->sent]);
		*ret_turn = s->turn;
	}
	pthread_mutex_unlock(&s->lock);
	return go;
}

void spool_flush(job *j)
{
	spool *s = &j->spool;
	char *text;
	uint64_t turn;
	while (next(s, &text, &turn)) {
		int r = send_text(j->a, text, j->cancel);
		free(text);
		pthread_mutex_lock(&s->lock);
		s->is_sending = false;
		/* Else it went to a coordinator that has gone since. */
		if (r >= 0 && s->turn == turn)
			s->sent++;
		shorten(s);
		pthread_mutex_unlock(&s->lock);
		if (r < 0)
			return;
	}
}

void spool_add(job *j, bxc_json *m_take, bool is_log)
{
	spool *s = &j->spool;
	uint64_t hook = bxc_cancel_hook(j->cancel, wake, s);
	pthread_mutex_lock(&s->lock);
	/* Nobody listens and enough is kept: the step waits with its output. */
	while (is_log && !s->is_heard && s->bytes > KEPT_MAX && !bxc_cancel_is_fired(j->cancel))
		pthread_cond_wait(&s->room, &s->lock);
	if (is_log)
		bxc_json_set_u64(m_take, "n", s->first + s->texts.n);
	char *text = bxc_json_print(m_take);
	s->bytes += strlen(text);
	*bxc_arr_push(&s->texts) = text;
	pthread_mutex_unlock(&s->lock);
	bxc_cancel_unhook(j->cancel, hook);
	bxc_json_free(m_take);
	spool_flush(j);
}

bool spool_is_heard(spool *s)
{
	pthread_mutex_lock(&s->lock);
	bool yes = s->is_heard;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

void spool_mark_started(spool *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_started = true;
	pthread_mutex_unlock(&s->lock);
}

void spool_detach(spool *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_heard = false;
	s->turn++;
	pthread_mutex_unlock(&s->lock);
}

void spool_adopted(job *j)
{
	spool *s = &j->spool;
	bxc_json *m = message(j, "task.adopted");
	pthread_mutex_lock(&s->lock);
	bxc_json_set_u64(m, "first", s->first);
	bxc_json_set_bool(m, "started", s->is_started);
	pthread_mutex_unlock(&s->lock);
	send_json(j->a, m, j->cancel);
	pthread_mutex_lock(&s->lock);
	s->is_heard = true;
	s->turn++;
	s->sent = 0;
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->lock);
}
