/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hvmi.h
 * libhvmi: look into virtual machines from outside. Includes all public headers but backend.h.
 */
#ifndef HVMI_HVMI_H
#define HVMI_HVMI_H

#include <hvmi/common.h>
#include <hvmi/error.h>
#include <hvmi/registers.h>
#include <hvmi/vm.h>
#include <hvmi/watch.h>
#include <hvmi/space.h>
#include <hvmi/search.h>
#include <hvmi/insn.h>
#include <hvmi/event.h>
#include <hvmi/view.h>
#include <hvmi/hook.h>
#include <hvmi/profile.h>
#include <hvmi/os.h>
#include <hvmi/journal.h>
#include <hvmi/quiet.h>
#include <hvmi/detour.h>
#include <hvmi/pe.h>
#include <hvmi/windows.h>

#endif
