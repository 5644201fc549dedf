/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program has changed in a domain, in a file that outlives it: /run/hvmi/xen-DOMAIN-PID-NUMBER,
 * locked as long as the program lives. Whoever opens the domain for writing undoes what dead ones left.
 */
#ifndef XEN_JOURNAL_H
#define XEN_JOURNAL_H

#include "domain.h"

#define JOURNAL_FOLDER "/run/hvmi"

/* In the file, mapped. */
struct journal_record {
	char magic[8];
	uint32_t domain, pid;
	uint8_t uuid[16];
	uint32_t paused;	/* how often we paused it and did not resume it */
	uint32_t events;	/* 1: the ring is ours */
	uint64_t max_pages;	/* before we raised it; 0: we did not */
	uint64_t first_page;	/* gfn of the first of ours */
	uint64_t pages;		/* at and above it */
};

/* Undo what dead programs left in a domain that is opened for writing; else only say so. */
int journal_recover(struct domain *d, struct hvmi_error *err);

/* Have one. Without a place for files it is in memory only, and all goes on. */
int journal_need(struct domain *d, struct hvmi_error *err);
struct journal_record *journal_record(struct domain *d);
int journal_add_pause(struct domain *d, int by, struct hvmi_error *err);

/* The PID of another living program of ours that has the domain's events; 0: none. */
uint32_t journal_owner(const struct domain *d);

/* Pages that we gave the domain, given back; and its limit, if max_pages is not 0. */
void journal_return_pages(const struct domain *d, uint64_t first, uint64_t pages,
			  uint64_t max_pages);

/* What is still to be undone (pauses) is. */
void journal_close(struct domain *d);

#endif
