/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "suite.h"

struct options options = { .cycles = 1000, .timeout_ms = 10000 };
struct machine machine;
struct hvmi_error error;

enum outcome { PASSED = 1, FAILED, SKIPPED };

static jmp_buf leave;
static char reason[1024];
static unsigned counts[SKIPPED + 1], number;

void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	longjmp(leave, FAILED);
}

void skip(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	longjmp(leave, SKIPPED);
}

void remark(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
}

static enum outcome attempt(void (*run)(void))
{
	int how = setjmp(leave);
	if (how == 0) {
		run();
		return PASSED;
	}
	return (enum outcome)how;
}

static void reopen(void)
{
	GOOD(machine_open(&machine, options.target, HVMI_OPEN_WRITE));
}

/* What a test left behind must not be the next one's trouble. */
static void recover(void)
{
	if (machine_settle(&machine) == 0)
		return;
	remark("the guest is not as it was: opening the machine anew");
	machine_close(&machine);
	if (attempt(reopen) == FAILED)
		remark("%s", reason);
	else if (machine_settle(&machine))
		remark("the probe does not come back");
}

static void run_test(const struct test *test)
{
	enum outcome outcome = FAILED;
	int64_t start = now_ms();
	error.text[0] = '\0';
	if (machine.vm)
		outcome = attempt(test->run);
	else
		snprintf(reason, sizeof(reason), "the machine cannot be opened any more");
	counts[outcome]++;
	number++;
	if (outcome == PASSED)
		printf("ok %u - %s\n", number, test->name);
	else if (outcome == SKIPPED)
		printf("ok %u - %s # SKIP %s\n", number, test->name, reason);
	else
		printf("not ok %u - %s: %s\n", number, test->name, reason);
	fflush(stdout);
	if (now_ms() - start > 2000)
		remark("%s took %lld ms", test->name, (long long)(now_ms() - start));
	if (outcome == FAILED || machine.events || machine.pauses)
		recover();
}

static void usage(FILE *to)
{
	fputs("usage: hvmi-conformance TARGET [OPTION]...\n\n"
	      "  --cycles N          attach to the machine's events and detach so often (1000)\n"
	      "  --second TARGET     another machine with the same guest, for the tests on two\n"
	      "  --only NAME         this test only; may be repeated, NAME may end in *\n"
	      "  --except NAME       not this one; as --only\n"
	      "  --mailbox gpa:N     where the probe's mailbox is, in a guest without Linux\n"
	      "  --timeout SECONDS   how long to wait for the guest (10)\n"
	      "  --module-dir DIR    where backends are, if not where they are installed\n"
	      "  --no-int3           do not place int3s: the emulated processor does not tell of them\n"
	      "  --place DIR         place hooks and detours, journalled in DIR, until it is killed\n"
	      "  --say               have the guest say on its console what it knows of itself\n"
	      "  --list              print the names of all tests\n"
	      "  --verbose           print the library's log\n\n"
	      "Exit status: 0, 1 if a test failed, 2 misuse, 77 if the machine cannot be opened.\n",
	      to);
}

#define NAMES_MAX 64
struct names {
	const char *names[NAMES_MAX];
	unsigned count;
};

static bool names_have(const struct names *names, const char *name)
{
	for (unsigned i = 0; i < names->count; i++) {
		size_t len = strlen(names->names[i]);
		bool prefix = len && names->names[i][len - 1] == '*';
		if (prefix ? strncmp(name, names->names[i], len - 1) == 0 :
			     strcmp(name, names->names[i]) == 0)
			return true;
	}
	return false;
}

/* Something else than the tests. */
static int only_do(void (*run)(void))
{
	enum outcome outcome = attempt(run);
	if (outcome != PASSED)
		printf("%s\n", reason);
	machine_close(&machine);
	return outcome == PASSED ? 0 : outcome == SKIPPED ? 77 : 1;
}

static void say(void)
{
	need_probe(PROBE_CHECKS);
	start_command(PROBE_SAY, 0, 0, 0, 0, 0);
	end_call();
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "cycles", required_argument, NULL, 'c' }, { "second", required_argument, NULL, '2' },
		{ "only", required_argument, NULL, 'o' }, { "except", required_argument, NULL, 'x' },
		{ "mailbox", required_argument, NULL, 'm' },
		{ "timeout", required_argument, NULL, 't' },
		{ "module-dir", required_argument, NULL, 'd' }, { "say", no_argument, NULL, 's' },
		{ "place", required_argument, NULL, 'p' }, { "no-int3", no_argument, NULL, 'n' },
		{ "list", no_argument, NULL, 'l' }, { "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	static const struct test *const groups[] = { memory_tests, event_tests, access_tests,
						     processor_tests, hook_tests, place_tests,
						     detach_tests };
	struct names only = { .count = 0 }, except = { .count = 0 };
	bool list = false, say_only = false;
	for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
		struct names *names = c == 'o' ? &only : &except;
		switch (c) {
		case 'c': options.cycles = (unsigned)atoi(optarg); break;
		case '2': options.second = optarg; break;
		case 'o': case 'x':
			if (names->count < NAMES_MAX)
				names->names[names->count++] = optarg;
			break;
		case 'm': options.mailbox = optarg; break;
		case 't': options.timeout_ms = 1000 * atoi(optarg); break;
		case 'd': options.module_dir = optarg; break;
		case 's': say_only = true; break;
		case 'p': options.place = optarg; break;
		case 'n': options.no_int3 = true; break;
		case 'l': list = true; break;
		case 'v': options.verbose = true; break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	for (size_t g = 0; list && g < sizeof(groups) / sizeof(*groups); g++)
		for (const struct test *test = groups[g]; test->name; test++)
			puts(test->name);
	if (list)
		return 0;
	if (argc - optind != 1) {
		usage(stderr);
		return 2;
	}
	options.target = argv[optind];
	if (attempt(reopen) == FAILED) {
		fprintf(stderr, "%s\n", reason);
		return 77;
	}
	if (say_only || options.place)
		return only_do(say_only ? say : place_until_killed);
	remark("%s: %s, %u vCPUs, %s", options.target, machine.info.format, machine.info.vcpus,
	       machine.space ? "with a probe" : machine.no_probe);
	for (size_t g = 0; g < sizeof(groups) / sizeof(*groups); g++)
		for (const struct test *test = groups[g]; test->name; test++)
			if ((!only.count || names_have(&only, test->name)) &&
			    !names_have(&except, test->name))
				run_test(test);
	machine_close(&machine);
	printf("1..%u\n%u passed, %u failed, %u skipped\n", number, counts[PASSED], counts[FAILED],
	       counts[SKIPPED]);
	return counts[FAILED] ? 1 : 0;
}
