/* SPDX-License-Identifier: Apache-2.0 */
/* Private to coordinator/dockerfile: what its files share. */
#pragma once

#include <string.h>

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/dockerfile/dockerfile.h"

#define DF_MAX_INSTRUCTIONS 20000u	 /* of one file; each costs about 1 KiB in all */
#define DF_MAX_WORDS	    100000u	 /* of one instruction */
#define DF_MAX_HEREDOCS	    1000u	 /* of one instruction */
#define DF_MAX_WORD	    (8u << 20)	 /* bytes one expansion may give */
#define DF_MAX_NESTING	    100u	 /* of ${a:-${b:-...}} */
#define DF_MAX_VARS	    10000u	 /* variables, labels, ports of one stage */
#define DF_MAX_WORK	    (256u << 20) /* bytes made by expanding and copying in one lowering */
#define DF_MAX_IMAGES	    1000u	 /* that one target needs */
#define DF_MAX_WARNINGS	    1000u	 /* more are not told */
#define DF_MAX_WARNING	    1000u	 /* bytes of one; what is longer is cut */
#define DF_MAX_LOOKS	    100000u	 /* names compared to find the nearest, in one lowering */
#define DF_FOLLOWPATHS_MAX  (1u << 20)	 /* bytes of the list of paths of a context */
#define DF_NO_STAGE	    SIZE_MAX

typedef enum df_kind {
	DF_NONE = 0,
	DF_ADD,
	DF_ARG,
	DF_CMD,
	DF_COPY,
	DF_ENTRYPOINT,
	DF_ENV,
	DF_EXPOSE,
	DF_FROM,
	DF_HEALTHCHECK,
	DF_LABEL,
	DF_MAINTAINER,
	DF_ONBUILD,
	DF_RUN,
	DF_SHELL,
	DF_STOPSIGNAL,
	DF_USER,
	DF_VOLUME,
	DF_WORKDIR,
} df_kind;

typedef enum df_tri {
	DF_UNSET = 0,
	DF_FALSE,
	DF_TRUE,
} df_tri;

typedef struct df_pair {
	char *key;
	char *value; /* NULL: none given (ARG) */
} df_pair;

typedef BXC_ARR(df_pair) df_pairs;
void df_pairs_done(df_pairs *p);

typedef struct df_heredoc {
	char *name;
	char *data;
	bool expand;
	bool strip_tabs;
	uint32_t fd;
} df_heredoc;

typedef BXC_ARR(df_heredoc) df_heredocs;
void df_heredocs_done(df_heredocs *h);

typedef struct df_source { /* of ADD and COPY */
	char *path;	   /* NULL: the heredoc counts */
	char *doc_name;
	char *doc_data;
	bool doc_expand;
} df_source;

typedef struct df_checks { /* what "check=..." says; rules are bits, by df_rule */
	uint32_t skip;
	uint32_t experimental; /* turned on */
	bool error;	       /* a violation fails the build */
} df_checks;

typedef struct df_instr {
	df_kind kind;
	char *text;   /* the instruction on one line, without heredoc bodies */
	char **flags; /* "--name=value" */
	bool is_json;
	char **args;	/* words as written; shell forms: one string */
	df_pairs pairs; /* ARG, ENV, LABEL */
	bool is_legacy; /* ENV and LABEL: "key value" */
	df_heredocs docs;
	char *comments;	  /* the comment lines right above it, NULL: none */
	df_checks checks; /* of those lines */
	uint32_t line, line_end;
	uint32_t gap_line; /* where it ends that has a blank line within; 0: it has none */
	/* FROM */
	char *base;
	char *stage; /* lower case; NULL: none */
	char *platform;
	/* ADD, COPY */
	BXC_ARR(df_source) sources;
	char *dest;
	char *chown;
	char *chmod;
	char *from;
	char *checksum;
	char **exclude;
	bool link;
	bool parents;
	df_tri unpack;
	df_tri keep_git_dir;
	/* RUN */
	char **mounts;
	char *network;
	char *security;
	char **devices;
	/* HEALTHCHECK */
	bxc_oci_healthcheck health;
	/* ONBUILD */
	struct df_instr *sub;
	char *trigger; /* what is stored, heredocs included */
} df_instr;

void df_instr_free(df_instr *i);
BXC_DEFINE_CLEANUP(df_instr, df_instr_free);

typedef struct df_stage_src {
	const df_instr *from;
	size_t first, n; /* its commands in bxc_df_ast.instrs */
} df_stage_src;

struct bxc_df_ast {
	char *name;
	char escape;
	char *syntax; /* "# syntax=", NULL: none */
	char *check;  /* "# check=" */
	uint32_t syntax_line, check_line;
	BXC_ARR(df_instr *) instrs;
	size_t n_meta; /* instructions before the first FROM */
	BXC_ARR(df_stage_src) stages;
};

/* ---- df_text.c ---- */
/* Strings that become a strv once: pushing to a strv walks all of it each time. */
typedef BXC_ARR(char *) df_list;
void df_list_done(df_list *l);
char **df_list_finish(df_list *l); /* the list is empty after */
static inline bool df_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}
bool df_is_letter(uint32_t rune); /* as Go's unicode.IsLetter, nearly */
/* The length of the character at `p` (not the end); what is no UTF-8 counts as U+FFFD of one byte.
 */
size_t df_next_rune(const char *p, uint32_t *ret);
int df_unsupported(const char *what, bxc_err **err);
/* A heredoc that becomes a file: its name is one of a file in a folder. */
BXC_MUST_CHECK int df_doc_name_check(const char *name, bxc_err **err);
char *df_with_docs(const char *text, const df_heredocs *docs); /* the bodies after it, as written */
/* Prefixes "file:line: " and sets the details, unless a place is there already; returns r. */
int df_place(bxc_err **err, int r, const char *file, uint32_t line, uint32_t line_end);
char *df_go_quote(const char *s);	/* "a" */
char *df_go_quote_list(char *const *v); /* ["a" "b"] */
char *df_go_list(char *const *v);	/* [a b] */
char *df_go_duration(int64_t ns);	/* 1m30s */
char *df_path_clean(
	const char *base, const char *path); /* absolute and clean; relative ones join base */
bool df_signal_valid(const char *s);
/* Appends "80/tcp"; "8000-8002/udp" gives three. */
BXC_MUST_CHECK int df_ports(const char *spec, df_list *ports, bxc_err **err);
char *df_strip_tabs(const char *s);  /* of each line's begin */
char *df_upper_first(const char *s); /* the first word in upper case */

/* ---- df_env.c: ordered variables ---- */
typedef struct df_env df_env;
df_env *df_env_new(void);
df_env *df_env_dup(const df_env *e);
void df_env_free(df_env *e);
BXC_DEFINE_CLEANUP(df_env, df_env_free);
const char *df_env_get(const df_env *e, const char *key); /* NULL: unset; e may be NULL */
void df_env_set(df_env *e, const char *key, const char *value);
void df_env_set_strv(df_env *e, char *const *kv); /* "K=V"; without '=': empty */
size_t df_env_len(const df_env *e);
const df_pair *df_env_at(const df_env *e, size_t i);
uint64_t df_env_bytes(const df_env *e); /* what a copy of it costs */
char **df_env_strv(const df_env *e);	/* "K=V", owned */
/* Gives all of it to a step; steps between two changes share one list. */
BXC_MUST_CHECK int df_env_share(df_env *e, bxc_def_vertex *v, bxc_err **err);

/*
 * A list of "K=V" that keeps its order and its odd entries, with a quick look-up: the environment
 * and the labels of a configuration while they change.
 */
typedef struct df_vars df_vars;
df_vars *df_vars_open(char **strv_take);
size_t df_vars_len(const df_vars *v);
void df_vars_set(df_vars *v, const char *key, const char *value);
char **df_vars_close(df_vars *v); /* the list, owned; frees v. NULL gives NULL */

/* ---- df_glob.c: patterns of ${v#p} and the like ---- */
typedef struct df_glob df_glob;
BXC_MUST_CHECK int df_glob_new(const char *pattern, df_glob **ret, bxc_err **err);
void df_glob_free(df_glob *g);
BXC_DEFINE_CLEANUP(df_glob, df_glob_free);
/* `work` is charged with the steps taken; BXC_RESOURCE_EXHAUSTED when it runs out. */
BXC_MUST_CHECK int df_glob_trim(const df_glob *g, const char *value, bool suffix, bool longest,
	uint64_t *work, char **ret, bxc_err **err);
BXC_MUST_CHECK int df_glob_replace(const df_glob *g, const char *value, const char *with, bool all,
	uint64_t *work, char **ret, bxc_err **err);

/* ---- df_word.c: shell words ---- */
typedef struct df_word_opts {
	char escape;
	bool raw_quotes;  /* keep quotes */
	bool raw_escapes; /* keep escape characters */
	bool skip_quotes; /* quotes are ordinary characters */
	bool skip_unset;  /* leave unset variables as written */
	uint64_t *work;	  /* what may still be produced, bytes */
	df_env **used;	  /* gathers the names of set variables; NULL: not wanted */
	df_env **unset;	  /* ... and of those that are not */
} df_word_opts;
BXC_MUST_CHECK int df_charge(uint64_t *work, uint64_t n, bxc_err **err);
BXC_MUST_CHECK int df_word(
	const char *s, const df_env *env, const df_word_opts *o, char **ret, bxc_err **err);
BXC_MUST_CHECK int df_words(
	const char *s, const df_env *env, const df_word_opts *o, char ***ret, bxc_err **err);

/* ---- df_lex.c: from bytes to one line per instruction ---- */
typedef struct df_lexer {
	bxc_slice text;
	size_t pos;
	uint32_t line; /* lines taken so far */
	char escape;
	bool directives_over;
	bool escape_seen;
	char *syntax;
	char *check;
	uint32_t syntax_line, check_line;
	bxc_buf comments; /* the lines since the last instruction or gap; made when there is one */
} df_lexer;

typedef struct df_line {
	char *text;
	char *comments;
	uint32_t start, end;
	bool has_gap; /* a blank line within a continuation */
} df_line;

void df_lexer_done(df_lexer *l);
/* 1: a line (owned by the caller), 0: the end. */
BXC_MUST_CHECK int df_lex_line(df_lexer *l, df_line *ret, bxc_err **err);
BXC_MUST_CHECK int df_lex_heredoc(df_lexer *l, df_heredoc *h, bxc_err **err);
/* 1 and *ret filled (without data) when the word is a heredoc. */
int df_heredoc_parse(const char *word, df_heredoc *ret);
void df_heredocs_find(const char *line, df_heredocs *ret);

/* ---- df_parse.c ---- */
/* A line into an instruction: name, flags, arguments; neither heredocs nor what df_instr_check
 * does. */
BXC_MUST_CHECK int df_parse_line(const char *text, char escape, df_instr **ret, bxc_err **err);
/* The one instruction of a trigger, with the default escape; its lines tell nothing. */
BXC_MUST_CHECK int df_parse_trigger(const char *text, bxc_df_ast **ret, bxc_err **err);
const char *df_kind_name(df_kind k);

/* ---- df_instr.c ---- */
/* Flags, numbers of arguments and what else can be told without values of variables. */
BXC_MUST_CHECK int df_instr_check(df_instr *i, bxc_err **err);

/* ---- df_mount.c: --mount of RUN ---- */
typedef struct df_mount {
	bxc_mount_kind kind;
	char *from;
	char *source;
	char *target;
	bool readonly;
	bool required;
	uint64_t size;
	char *id;
	char *env; /* secret: name of the variable; NULL: none */
	bool has_sharing;
	bxc_cache_sharing sharing;
	bool has_mode, has_uid, has_gid;
	uint32_t mode, uid, gid;
} df_mount;

typedef int (*df_expand_fn)(const char *word, char **ret, void *ud, bxc_err **err);
void df_mount_done(df_mount *m);
/* Grammar only: what can be told before variables have values; *ret_from (owned) is NULL when there
 * is none. */
BXC_MUST_CHECK int df_mount_scan(const char *text, char **ret_from, bxc_err **err);
BXC_MUST_CHECK int df_mount_parse(
	const char *text, df_expand_fn expand, void *ud, df_mount *ret, bxc_err **err);

/* ---- lowering ---- */
typedef struct df_outline df_outline;

typedef struct df_cmd {
	const df_instr *i;
	bool on_build;
	uint32_t line, line_end;
	BXC_ARR(size_t)
	from; /* stages it reads: COPY --from one, RUN one per mount or DF_NO_STAGE */
} df_cmd;

typedef struct df_stage {
	const df_instr *instr; /* NULL: an image that only COPY --from or a mount names */
	const char *name;      /* borrowed; NULL: none */
	size_t index;	       /* in stages */
	char number[24];       /* the same as text */
	char *label;	       /* shown in the names of steps; "" none */
	char *base;	       /* after expansion */
	size_t base_stage;
	bool has_platform;
	bxc_platform platform;
	BXC_ARR(df_cmd) cmds;
	uint32_t line, line_end;
	uint32_t n_steps, n_named;
	bool is_reachable;
	bool is_resolved;
	bool has_triggers; /* triggers of the base were added */
	bool is_dispatched;
	bool ignore_cache;
	const bxc_df_context *context; /* stands in for it, or for its base; NULL: none */
	bool is_replaced;	       /* by the context: it has no commands */
	bool has_base;		       /* the tree of the context was made */
	char *pinned; /* of an image that has layers: identifier of its source */
	char *base_ref;
	/* while its commands are gone through, and after them for those that build on it */
	uint32_t tree;
	df_env *env;
	bxc_oci_config *image;
	df_pairs args;				      /* declared by ARG */
	const df_cmd *cmd, *entrypoint, *healthcheck; /* the last of each; NULL: none yet */
	bool workdir_is_set;
	df_env *bare;	     /* names that ARG declared without a value; NULL: none */
	df_outline *outline; /* NULL: not asked for */
	/* of image, while the stage's commands are gone through */
	df_vars *config_env, *labels;
} df_stage;

typedef struct df_local { /* a folder of the client that is used */
	char *name;
	uint32_t vertex;
	BXC_ARR(char *) paths; /* that are used, as often as they are */
} df_local;

typedef BXC_ARR(df_local) df_locals;

typedef struct df_lower {
	const bxc_df_ast *ast;
	const bxc_df_opts *o;
	bxc_df_result *res;
	df_env *build_args;
	df_env *global;
	BXC_ARR(df_stage *) stages;
	size_t n_file_stages;
	bxc_map *by_name;  /* -> index + 1 */
	bxc_map *by_image; /* those without instr: what they name -> index + 1 */
	bxc_map *needs;	   /* what lw->res->needs holds: "ref platform" */
	size_t target;
	BXC_ARR(bxc_df_ast *) triggers;
	bxc_def *tmp; /* the vertices until it is known that all is well */
	df_locals locals;
	uint32_t context;
	uint32_t context_tree; /* of o->context_def; BXC_DEF_NO_INPUT: not used yet */
	char **proxy_env;
	uint64_t work;
	df_checks checks;
	uint32_t violated; /* rules, as bits */
	uint32_t looks_left;
	const df_cmd *cmd;   /* what is gone through now */
	df_env *from_names;  /* what a FROM may name; made when a name is unknown */
	df_outline *outline; /* of the global arguments; NULL: not asked for */
	bool is_undated;     /* SOURCE_DATE_EPOCH counts as unset */
} df_lower;

/* ---- df_stage.c: the graph of stages ---- */
BXC_MUST_CHECK int df_stages_make(df_lower *lw, bxc_err **err);
/* Images, triggers, reachability; 1: lw->res->needs was filled. */
BXC_MUST_CHECK int df_stages_resolve(df_lower *lw, bxc_err **err);
BXC_MUST_CHECK int df_copy_config(
	df_lower *lw, df_stage *s, const bxc_oci_config *c, bxc_err **err);
void df_stage_free(df_stage *s);

/* ---- df_lower.c ---- */
BXC_MUST_CHECK int df_expand(
	df_lower *lw, const df_stage *s, const char *word, char **ret, bxc_err **err);
BXC_MUST_CHECK int df_history(
	df_lower *lw, df_stage *s, bool layer, char *created_by_take, bxc_err **err);
const char *df_stage_dir(const df_stage *s);
bool df_is_scan_arg(const char *key); /* one that never enters the environment */
char **df_with_shell(const df_stage *s, const char *command);
#define DF_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static inline df_word_opts df_opts_of(df_lower *lw)
{
	return (df_word_opts){.escape = lw->ast->escape, .work = &lw->work};
}

/* As bxc_df_lower, without a SOURCE_DATE_EPOCH. */
BXC_MUST_CHECK int df_lower_undated(
	const bxc_df_ast *a, const bxc_df_opts *o, bxc_def *def, bxc_df_result *ret, bxc_err **err);

/* ---- df_epoch.c ---- */
/* 1: lw->res->need_time was set. */
BXC_MUST_CHECK int df_epoch_set(df_lower *lw, bxc_err **err);

/* ---- df_check.c, df_check_rules.c ---- */
typedef enum df_rule {
	DF_RULE_STAGE_NAME_CASING = 0,
	DF_RULE_FROM_AS_CASING,
	DF_RULE_NO_EMPTY_CONTINUATION,
	DF_RULE_CONSISTENT_INSTRUCTION_CASING,
	DF_RULE_DUPLICATE_STAGE_NAME,
	DF_RULE_RESERVED_STAGE_NAME,
	DF_RULE_JSON_ARGS_RECOMMENDED,
	DF_RULE_MAINTAINER_DEPRECATED,
	DF_RULE_UNDEFINED_ARG_IN_FROM,
	DF_RULE_WORKDIR_RELATIVE_PATH,
	DF_RULE_UNDEFINED_VAR,
	DF_RULE_MULTIPLE_INSTRUCTIONS,
	DF_RULE_LEGACY_KEY_VALUE,
	DF_RULE_BASE_IMAGE_PLATFORM,
	DF_RULE_REDUNDANT_TARGET_PLATFORM,
	DF_RULE_SECRETS_IN_ARG_OR_ENV,
	DF_RULE_DEFAULT_ARG_IN_FROM,
	DF_RULE_PLATFORM_CONST,
	DF_RULE_COPY_IGNORED_FILE,
	DF_RULE_DEFINITION_DESCRIPTION,
	DF_RULE_EXPOSE_PROTO_CASING,
	DF_RULE_EXPOSE_FORMAT,
	DF_N_RULES,
} df_rule;

/* Of the first comment line that says something about checks; what cannot be read is ignored. */
void df_checks_of_comments(const char *comments, df_checks *ret);
/* From the directive or the build argument. */
BXC_MUST_CHECK int df_checks_set(df_lower *lw, bxc_err **err);
/* Fails when rules were broken that are to fail the build. */
BXC_MUST_CHECK int df_checks_end(const df_lower *lw, bxc_err **err);
/* Warns when the rule applies: at a command, an instruction, or one line of it. */
void df_warn(df_lower *lw, df_rule rule, const df_cmd *c, const char *fmt, ...) BXC_PRINTF(4, 5);
void df_warn_instr(df_lower *lw, df_rule rule, const df_instr *i, const char *fmt, ...)
	BXC_PRINTF(4, 5);
void df_warn_line(df_lower *lw, df_rule rule, const df_instr *i, uint32_t line, const char *fmt,
	...) BXC_PRINTF(5, 6);
/* Is this comment line (n bytes) "check=..."? */
bool df_is_check_comment(const char *line, size_t n, const char **ret_value);
char *df_instr_word(const df_instr *i); /* the instruction's name as written; owned */

void df_check_file(df_lower *lw);
void df_check_default_bases(df_lower *lw);
void df_check_unset(df_lower *lw, const df_stage *s, const df_env *unset);
void df_check_unset_in_from(df_lower *lw, const df_instr *i, const df_env *unset);
void df_check_platform(
	df_lower *lw, const df_instr *i, const char *text, const df_env *used, const df_env *unset);
void df_check_base_platform(
	df_lower *lw, const df_stage *s, const bxc_platform *want, const bxc_platform *have);
void df_check_secret(df_lower *lw, const df_instr *i, const char *key);
void df_check_legacy(df_lower *lw, const df_instr *i);
void df_check_once(df_lower *lw, const df_cmd **last);
void df_check_shell_form(df_lower *lw, const df_stage *s, const df_instr *i);
void df_check_workdir(df_lower *lw, df_stage *s, const char *path);
void df_check_copy_source(df_lower *lw, const df_instr *i, const char *path);
void df_check_port(df_lower *lw, const char *spec);

/* ---- df_syntax.c ---- */
/* The frontend that the file or a build argument asks for is the built-in one. */
BXC_MUST_CHECK int df_syntax_check(const df_lower *lw, bxc_err **err);
/* Refuses a file in the language of another frontend, which says so in a comment of its own. */
BXC_MUST_CHECK int df_syntax_refuse(bxc_slice text, const char *name, bxc_err **err);

/* ---- df_outline.c: what a target takes ---- */
df_outline *df_outline_new(void);
void df_outline_free(df_outline *o);
/* All do nothing when no outline was asked for. */
void df_outline_global(
	df_lower *lw, const df_instr *i, const df_pair *arg, const char *value, const df_env *deps);
void df_outline_used(df_outline *o, const df_env *names);
void df_outline_arg(df_lower *lw, df_stage *s, const df_pair *arg, const char *value);
void df_outline_mount(df_lower *lw, df_stage *s, const df_mount *m);
bxc_json *df_outline_document(const df_lower *lw);
char *df_description(const df_instr *i); /* of a stage, from the comment above it; NULL: none */
/* ---- df_document.c ---- */
bxc_json *df_location(uint32_t line, uint32_t line_end, bool each_line);

/* ---- df_lower_config.c ---- */
BXC_MUST_CHECK int df_lower_cmd(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_shell(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_health(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_user(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_stopsignal(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_expose(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_volume(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_onbuild(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);
BXC_MUST_CHECK int df_lower_maintainer(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err);

/* ---- df_lower_run.c, df_lower_copy.c ---- */
BXC_MUST_CHECK int df_lower_run(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err);
BXC_MUST_CHECK int df_lower_copy(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err);
BXC_MUST_CHECK int df_lower_workdir(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err);
void df_owner_parse(const char *text, bxc_def_owner *ret);

/* ---- df_lower_remote.c: ADD of a URL or a git repository ---- */
typedef enum df_remote {
	DF_REMOTE_NONE = 0,
	DF_REMOTE_HTTP,
	DF_REMOTE_GIT,
} df_remote;
BXC_MUST_CHECK int df_remote_kind(const char *path, df_remote *ret, bxc_err **err);
/*
 * The source vertex of a path that lies elsewhere (`kind` is not NONE). *ret_file (owned): the name
 * of the one file that its tree holds; NULL: a tree of many.
 */
BXC_MUST_CHECK int df_remote_source(df_lower *lw, const df_stage *s, const df_cmd *c,
	const char *path, df_remote kind, const char *checksum, uint32_t *ret, char **ret_file,
	bxc_err **err);
/* What of it is copied: src and the flags that go with it. */
void df_remote_action(const df_instr *i, bxc_file_action *a, const char *file);

/* ---- df_context.c ---- */
/* The context that stands in for stages or images of this name; NULL: none. */
const bxc_df_context *df_context_find(
	const df_lower *lw, const char *name, const bxc_platform *platform);
/* The context as an input; `path` (absolute, clean) of it is used. */
BXC_MUST_CHECK int df_out_context(df_lower *lw, const char *path, uint32_t *ret, bxc_err **err);
/* The result of a stage as an input, of which `path` is used. */
BXC_MUST_CHECK int df_out_stage(
	df_lower *lw, size_t stage, const char *path, uint32_t *ret, bxc_err **err);
/* Sets the tree of a stage that is or begins with a context. */
BXC_MUST_CHECK int df_context_base(df_lower *lw, df_stage *s, bxc_err **err);
void df_local_attrs(const df_lower *lw, const df_local *l, bxc_def_vertex *v);
void df_locals_done(df_locals *l);

/* ---- df_lower_out.c: vertices and their names ---- */
/* The name of the stage's next step, e.g. "[build 2/4] " and the text. Owned. */
char *df_step_name(df_lower *lw, df_stage *s, bool on_build, const char *text);
/* The text of an instruction as steps show it: name in upper case, variables expanded. Owned. */
char *df_step_text(df_lower *lw, const df_stage *s, const char *text, bool keep_quotes);
void df_step_meta(
	bxc_def_vertex *v, const df_lower *lw, const df_stage *s, uint32_t line, uint32_t line_end);
BXC_MUST_CHECK int df_out_add(df_lower *lw, bxc_def_vertex *v_take, uint32_t *ret, bxc_err **err);
/* The source vertex of a resolved image. */
BXC_MUST_CHECK int df_out_image(df_lower *lw, df_stage *s, uint32_t *ret, bxc_err **err);
/* A vertex, or BXC_DEF_NO_INPUT, as an input. */
uint32_t df_out_input(bxc_def_vertex *v, uint32_t vertex);
/* A file of its own tree. */
BXC_MUST_CHECK int df_out_inline(df_lower *lw, const df_stage *s, const df_cmd *c, const char *name,
	const char *data, uint32_t mode, uint32_t *ret, bxc_err **err);
BXC_MUST_CHECK int df_out_flush(df_lower *lw, bxc_def *def, uint32_t target, bxc_err **err);
