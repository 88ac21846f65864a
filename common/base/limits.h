/* SPDX-License-Identifier: Apache-2.0 */
/* Named bounds of everything that comes from outside: value, unit, reason. */
#pragma once

#define BXC_LIMIT_PATH             4096u            /* bytes; PATH_MAX of Linux */
#define BXC_LIMIT_JSON             (64u << 20)      /* bytes of one document: a context tree of 100k files fits */
#define BXC_LIMIT_JSON_DEPTH       64               /* nesting; image configs need 6 */
#define BXC_LIMIT_JSON_VALUES      4000000u         /* values of one document: each costs ~80 bytes of memory */
#define BXC_LIMIT_MESSAGE          (4u << 20)       /* bytes of one channel message */
#define BXC_LIMIT_HTTP_BODY        (32u << 20)      /* bytes of one JSON request body */
#define BXC_LIMIT_HTTP_HEADER      (64u << 10)      /* bytes of all header lines */
#define BXC_LIMIT_DOCKERFILE       (16u << 20)      /* bytes */
#define BXC_LIMIT_DOCKERFILE_LINE  65535u           /* bytes; BuildKit's bound */
#define BXC_LIMIT_DEF_NODES        100000u          /* vertices of one definition */
#define BXC_LIMIT_MANIFEST         (4u << 20)       /* bytes; the distribution spec's recommendation */
#define BXC_LIMIT_IMAGE_CONFIG     (8u << 20)       /* bytes */
#define BXC_LIMIT_IMAGE_LAYERS     500u             /* layers of one image; overlayfs takes 500 lowers */
#define BXC_LIMIT_XATTR            (64u << 10)      /* bytes of one value; XATTR_SIZE_MAX */
#define BXC_LIMIT_SYMLINKS         255              /* links followed in one look-up */
#define BXC_LIMIT_TREE_ENTRIES     4000000u         /* files of one tree */
#define BXC_LIMIT_TREE_DEPTH       2100u            /* folders within folders: a path of BXC_LIMIT_PATH bytes has no more */
#define BXC_LIMIT_PASSWD           (10u << 20)      /* bytes of /etc/passwd or /etc/group */
#define BXC_LIMIT_BLOB             (UINT64_C(1) << 40)   /* bytes of one blob */
