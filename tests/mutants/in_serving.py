"""Bugs in what decides which version answers."""

from __future__ import annotations

from mutants.mutant import Mutant

_MANAGER = "serving/test_manager.py::"
_AWAY = "integration/test_store_away.py::"

MUTANTS = (
    Mutant(
        name="published-before-the-commit",
        why="A version answers that no record names, and goes on answering where its order is refused.",
        file="serving/manager.py",
        find="        done = self._desk.carry_out(accepted, ready)\n",
        replace=(
            "        self._pursuit.publish(ready, since=accepted.ordered.order.received)\n"
            "        done = self._desk.carry_out(accepted, ready)\n"
        ),
        tests=(_MANAGER + "test_a_rollback_does_not_wait_for_a_load_and_the_late_deploy_loses",),
    ),
    Mutant(
        name="pointer-before-the-answer",
        why="A bad version goes on answering for as long as the pointer takes, or hangs, though another is recorded.",
        file="serving/flip.py",
        find="        self._publish(ready, generation=generation, since=since, told=",
        replace=(
            "        if entered is not None:\n"
            "            self._scribe.show(entered.commit)\n"
            "        self._publish(ready, generation=generation, since=since, told="
        ),
        tests=(
            _MANAGER
            + "test_a_recorded_version_answers_before_the_pointer_shows_it_and_the_order_is_answered_after",
            _MANAGER + "test_a_pointer_that_hangs_holds_up_no_version_that_is_recorded",
        ),
    ),
    Mutant(
        name="replaced-edit-adopted",
        why="An edit that an operator's deploy has just replaced is recorded on top of it, and undoes it.",
        file="serving/manager.py",
        find="            case Sighting(decision=Adopt()) if news.at < self._flip.shown_at:",
        replace="            case Sighting(decision=Adopt()) if False:",
        tests=(
            _MANAGER + "test_an_edit_that_a_deploy_replaced_is_not_adopted_for_having_been_seen_just_before",
        ),
    ),
    Mutant(
        name="told-before-it-answers",
        why="Logs, metrics and the monitor take the interpreter first, and the bad version answers as long.",
        file="serving/flip.py",
        find="        entered, self._entered = self._entered, None\n",
        replace=(
            "        entered, self._entered = self._entered, None\n"
            "        if entered is not None:\n"
            "            self._tell(entered.told)\n"
            "            entered = replace(entered, told=None)\n"
        ),
        tests=(_MANAGER + "test_a_version_answers_before_anybody_is_told_of_its_record",),
    ),
    Mutant(
        name="all-that-happens-in-a-folder-is-news",
        why="The files that an order opens and syncs make events that cost more than the order.",
        file="serving/watch.py",
        find=", event_filter=_NEWS",
        replace="",
        tests=("serving/test_watch.py::test_the_kernel_is_not_asked_about_opening_and_reading",),
    ),
    Mutant(
        name="half-a-rename-is-waited-for",
        why="One edit in fifty takes effect half a second later, or at the next poll.",
        file="serving/watch.py",
        find="InotifyMoveEventGrouper.delay = 0.0",
        replace="pass",
        tests=("serving/test_watch.py::test_a_file_that_is_moved_away_is_news_at_once",),
    ),
    Mutant(
        name="pointer-left-to-the-next-look",
        why="A script that reads the pointer after `sidecarctl rollback` finds the version that was rolled away from.",
        file="serving/flip.py",
        find="        if entered is not None:\n            self._show(",
        replace="        if False:\n            self._show(",
        tests=(
            _MANAGER
            + "test_a_recorded_version_answers_before_the_pointer_shows_it_and_the_order_is_answered_after",
        ),
    ),
    Mutant(
        name="committed-before-it-verified",
        why="A version that cannot be loaded is the head, and no sidecar that starts now answers anything.",
        file="serving/desk.py",
        find="        self._waiting.remove(chosen)\n        return chosen",
        replace=(
            "        self._waiting.remove(chosen)\n"
            "        order, unverified = chosen.ordered.order, chosen.target\n"
            "        manifest = unverified.manifest or order.fingerprint()\n"
            "        self._scribe.enter(\n"
            "            Intent(\n"
            "                action=Action.DEPLOY, version=unverified.version, manifest_sha256=manifest, actor=order.actor,\n"
            "                request_id=order.request_id, request_sha256=order.fingerprint(),\n"
            "            ),\n"
            "            expected_generation=chosen.base_generation,\n"
            "        )\n"
            "        return chosen"
        ),
        tests=(_MANAGER + "test_a_version_that_fails_is_refused_and_the_live_one_answers_on",),
    ),
    Mutant(
        name="refused-order-recorded",
        why="The ledger says that a version is in service which was refused for what it would have broken.",
        file="serving/desk.py",
        find="                self._flip.check_schema(model)\n",
        replace=(
            "                self._flip.commit(\n"
            "                    _intent(order, ready), base_generation=accepted.base_generation, trigger='operator'\n"
            "                )\n"
            "                self._flip.check_schema(model)\n"
        ),
        tests=(_MANAGER + "test_a_changed_signature_is_refused_unless_it_is_allowed",),
    ),
    Mutant(
        name="dry-run-recorded",
        why="`--dry-run` deploys: in the ledger here, and in service everywhere else.",
        file="serving/desk.py",
        find="                draft = self._ledger.draft(intent)\n",
        replace=(
            "                draft = self._ledger.commit(intent, expected_generation=accepted.base_generation).record\n"
        ),
        tests=(_MANAGER + "test_validate_only_checks_and_moves_nothing",),
    ),
    Mutant(
        name="order-on-an-old-head-accepted",
        why="An order that names the head it was given on is carried out on another one.",
        file="serving/desk.py",
        find="if order.expected_generation is not None and order.expected_generation != base_generation:",
        replace="if False:",
        tests=(_MANAGER + "test_an_expected_generation_that_is_over_conflicts_and_names_the_winner",),
    ),
    Mutant(
        name="repeated-order-carried-out-again",
        why="An operator's retry after a lost reply is an order of its own.",
        file="serving/desk.py",
        find="        if found.replay is not None:\n            self._replay(ordered, found.replay)",
        replace="        if False:\n            self._replay(ordered, found.replay)",
        tests=(_MANAGER + "test_a_repeated_order_is_answered_though_its_version_is_no_longer_good",),
    ),
    Mutant(
        name="rollback-waits-its-turn",
        why="While a large version is loaded for a deploy, the bad one answers on: the rollback stands behind it.",
        file="serving/desk.py",
        find="        for accepted in self._waiting:\n            ready",
        replace="        for accepted in tuple(self._waiting)[:1]:\n            ready",
        tests=(_MANAGER + "test_a_rollback_is_loaded_before_deploys_that_wait",),
    ),
    Mutant(
        name="rollback-loaded-last",
        why="A rollback whose target has to be loaded waits for every deploy that was given before it.",
        file="serving/desk.py",
        find="        chosen = next(rollbacks, self._waiting[0])",
        replace="        chosen = self._waiting[0]",
        tests=(_MANAGER + "test_a_rollback_is_loaded_before_deploys_that_wait",),
    ),
    Mutant(
        name="answered-before-it-serves",
        why="`deploy` says done while the old version answers, and the next script step measures that.",
        file="serving/manager.py",
        find="        self._pursuit.publish(done.ready, since=since)\n        self._post()",
        replace=(
            "        accepted.ordered.answer(Outcome(done.record, 0.0))\n"
            "        time.sleep(0.2)\n"
            "        self._pursuit.publish(done.ready, since=since)\n        self._post()"
        ),
        tests=(_MANAGER + "test_a_deploy_is_recorded_and_live_when_it_is_answered",),
    ),
    Mutant(
        name="standby-not-kept",
        why="A rollback has to load the version that was live a minute ago: seconds or minutes instead of milliseconds.",
        file="serving/stage.py",
        find="            self._standby = before if self._keep_standby else None\n            if before is not None and not self._keep_standby:",
        replace="            self._standby = None\n            if before is not None:",
        tests=(_MANAGER + "test_a_rollback_takes_the_standby_and_loads_nothing",),
    ),
    Mutant(
        name="standby-not-loaded-after-a-start",
        why="After a restart, the first rollback has to load, and fails while the store is away.",
        file="serving/reserve.py",
        find="        if not self._keep_standby or residents.standby is not None:\n            return None\n",
        replace="        return None\n",
        tests=(_MANAGER + "test_after_a_start_the_head_answers_and_the_version_before_stands_by",),
    ),
    Mutant(
        name="released-while-a-request-holds-it",
        why="A request that is still running when its version leaves fails, or crashes the process.",
        file="serving/stage.py",
        find="return [slot.model for slot in leaving if slot.leases == 0]",
        replace="return [slot.model for slot in leaving]",
        tests=(
            "serving/test_stage.py::test_the_version_before_the_standby_leaves_when_its_last_request_is_answered",
        ),
    ),
    Mutant(
        name="retired-models-never-released",
        why="Each flip under traffic leaves a model in memory, until the sidecar is killed for it.",
        file="serving/stage.py",
        find="            idle = slot.retired and slot.leases == 0",
        replace="            idle = False",
        tests=(
            "serving/test_stage.py::test_the_version_before_the_standby_leaves_when_its_last_request_is_answered",
        ),
    ),
    Mutant(
        name="standby-published-as-another-slot",
        why="A rollback releases the very model that it puts into service.",
        file="serving/stage.py",
        find="leaving = [each for each in (self._standby,) if each is not None and each is not slot]",
        replace="leaving = [each for each in (self._standby,) if each is not None]",
        tests=("serving/test_stage.py::test_taking_the_standby_releases_nobody",),
    ),
    Mutant(
        name="schema-not-compared",
        why="A version that takes other inputs goes into service, and every caller fails at once.",
        file="serving/flip.py",
        find="        if breaks:\n",
        replace="        if False:\n",
        tests=(_MANAGER + "test_a_changed_signature_is_refused_unless_it_is_allowed",),
    ),
    Mutant(
        name="edited-schema-not-compared",
        why="The same by a hand edit, which nobody was asked about.",
        file="serving/pursuit.py",
        find="                self._flip.check_schema(ready.model)\n",
        replace="                pass\n",
        tests=(_MANAGER + "test_a_hand_edit_to_another_signature_needs_a_word_too",),
    ),
    Mutant(
        name="failed-look-unloads",
        why="A store that is away for a second ends the service.",
        file="serving/manager.py",
        find="                self._troubles.unseen(problem)\n",
        replace="                self._troubles.unseen(problem)\n                self._flip._stage.clear()\n",
        tests=(_MANAGER + "test_an_io_error_of_a_look_is_told_and_the_next_look_is_taken",),
    ),
    Mutant(
        name="unforeseen-error-ends-the-manager",
        why="One error that nobody thought of, and no rollback is ever carried out again.",
        file="serving/manager.py",
        find='            except Exception as error:\n                log.exception("the manager',
        replace='            except SidecarError as error:\n                log.exception("the manager',
        tests=(_MANAGER + "test_an_error_that_nobody_foresaw_ends_one_order_and_nothing_else",),
    ),
    Mutant(
        name="pointer-not-rewritten-in-time",
        why="A store that cannot be written for a moment ends the handling of a look half-way.",
        file="serving/scribe.py",
        find="        except StoreError as error:\n            return str(error)  # best effort",
        replace="        except ZeroDivisionError as error:\n            return str(error)  # best effort",
        tests=(
            "serving/test_scribe.py::test_a_pointer_that_cannot_be_rewritten_now_is_left_for_the_next_look",
        ),
    ),
    Mutant(
        name="old-look-overrules-a-new-order",
        why="A look that began before a deploy puts the old version back for a moment.",
        file="serving/wishes.py",
        find="        if known is None or record.generation >= known:",
        replace="        if True:",
        tests=(_MANAGER + "test_a_look_that_is_older_than_the_last_order_changes_nothing",),
    ),
    Mutant(
        name="edit-before-the-head-after-a-start",
        why="After a restart, a pending edit that cannot be had keeps the version from answering that answered before.",
        file="serving/wishes.py",
        find="head is not None and live_generation != head.generation and not self._stands(_wish(head))",
        replace="False",
        tests=(_MANAGER + "test_after_a_restart_the_head_answers_before_a_hand_edit_that_cannot",),
    ),
    Mutant(
        name="refused-versions-tried-for-ever",
        why="A version that cannot be loaded is loaded again and again, beside the traffic, all day long.",
        file="serving/policy.py",
        find="        if self.wanted != wanted or self.fingerprint != fingerprint:\n            return False\n        return",
        replace="        return False\n        return",
        tests=("serving/test_policy.py::test_a_refusal_stands_until_something_changes",),
    ),
    Mutant(
        name="refusal-outlives-its-cause",
        why="A version that was still being copied is refused for good.",
        file="serving/policy.py",
        find="if self.wanted != wanted or self.fingerprint != fingerprint:",
        replace="if self.wanted != wanted:",
        tests=("serving/test_policy.py::test_a_refusal_stands_until_something_changes",),
    ),
    Mutant(
        name="recorded-identity-not-asked-for",
        why="An order by name takes whatever stands in the directory by now, not what was deployed under that name.",
        file="serving/targets.py",
        find="return Target(version, ledger.recorded_manifest(version))",
        replace="return Target(version, None)",
        tests=(_MANAGER + "test_a_version_that_was_replaced_is_not_deployed_again",),
    ),
    Mutant(
        name="rollback-to-a-replaced-version",
        why="A rollback in the night lands on bytes that were never in service.",
        file="serving/targets.py",
        find="    if record is not None:\n        return Target(record.version, record.manifest_sha256)",
        replace="    if record is not None:\n        return Target(record.version, None)",
        tests=(_MANAGER + "test_a_previous_version_that_was_replaced_is_not_rolled_back_to",),
    ),
    Mutant(
        name="store-waited-for-without-end",
        why="A mount that hangs stops deployments, rollbacks and the way out until it is back.",
        file="serving/patience.py",
        find="self._news.wait(max(0.0, self._began + limit_s - time.monotonic()))",
        replace="self._news.wait()",
        tests=("serving/test_patience.py::test_what_hangs_is_left_behind_and_nothing_is_begun_behind_it",),
    ),
    Mutant(
        name="work-piles-up-behind-a-hang",
        why="Once a mount that hung for an hour is back, an hour of looks is done before anything else.",
        file="serving/patience.py",
        find="        if self._last is not None and not self._last.done():",
        replace="        if False:",
        tests=("serving/test_patience.py::test_what_hangs_is_left_behind_and_nothing_is_begun_behind_it",),
    ),
    Mutant(
        name="manager-refreshes-without-patience",
        why="A mount that hangs blocks the thread that would carry out the rollback to what is in memory.",
        file="serving/scribe.py",
        find="lambda: self.ledger.receive(request_id, request_sha256=request_sha256), limit_s=_limit(urgent)",
        replace="partial(lambda known: known, self.ledger.receive(request_id, request_sha256=request_sha256))",
        tests=("serving/test_scribe.py::test_nobody_waits_for_a_ledger_that_hangs",),
    ),
    Mutant(
        name="unfinished-commit-called-failed",
        why="An order whose record was written late is called refused, and takes effect all the same.",
        file="serving/scribe.py",
        find="        except UnfinishedError as error:",
        replace="        except ZeroDivisionError as error:",
        tests=("serving/test_scribe.py::test_a_commit_that_hangs_is_in_doubt_and_not_refused",),
    ),
    Mutant(
        name="events-alone-are-believed",
        why="On a network mount, which tells of no changes, a sidecar never follows the others.",
        file="serving/source.py",
        find="self._woken.wait(self._poll_interval_s * random.uniform(1 - _JITTER, 1 + _JITTER))",
        replace="self._woken.wait()",
        tests=(_MANAGER + "test_two_sidecars_adopt_one_edit_once_and_follow_each_other",),
    ),
    Mutant(
        name="failed-look-ends-the-looking",
        why="After one I/O error of the store, nothing that happens there is ever noticed again.",
        file="serving/source.py",
        find="            except OSError as error:\n                self._fail",
        replace="            except OSError as error:\n                return\n                self._fail",
        tests=(_MANAGER + "test_an_io_error_of_a_look_is_told_and_the_next_look_is_taken",),
    ),
    Mutant(
        name="replaced-directory-not-watched",
        why="Once the environment's directory was made anew, edits are noticed only by the slow poll.",
        file="serving/watch.py",
        find="if known is not None and (known[0] != identity or deleted):",
        replace="if False:",
        tests=("serving/test_watch.py::test_a_directory_that_was_made_anew_is_watched_again",),
    ),
    Mutant(
        name="directory-with-the-old-inode-not-watched",
        why="On ext4, which gives the inode of a deleted directory to the next one, the same.",
        file="serving/watch.py",
        find="if known is not None and (known[0] != identity or deleted):",
        replace="if known is not None and known[0] != identity:",
        tests=("serving/test_watch.py::test_a_directory_that_was_made_anew_is_watched_again",),
    ),
    Mutant(
        name="emergency-not-saved",
        why="A rollback that was answered with yes at 3 am is undone by the next restart.",
        file="serving/emergency.py",
        find="                self._file.save(record)\n",
        replace="                pass\n",
        tests=(_AWAY + "test_an_emergency_rollback_outlives_the_sidecar",),
    ),
    Mutant(
        name="emergency-in-effect-before-it-is-saved",
        why="Killed between the two, the sidecar comes back with the bad version, and nobody knows of the rollback.",
        file="serving/manager.py",
        find="        if done.no_store:\n            self._emergency.hold",
        replace=(
            "        if done.no_store:\n"
            "            self._flip.publish(done.ready, generation=None, since=since)\n"
            "            self._emergency.hold"
        ),
        tests=(_MANAGER + "test_an_emergency_is_kept_before_it_takes_effect",),
    ),
    Mutant(
        name="emergency-recorded-twice",
        why="A rollback that was recorded just before a crash is recorded once more after it, on top of what came since.",
        file="serving/emergency.py",
        find="        request_id=record.request_id,\n",
        replace='        request_id=f"{record.request_id[:40]}-{by.generation}",\n',
        tests=(
            _MANAGER + "test_an_emergency_that_others_overtook_is_recorded_once_though_a_crash_hides_that",
        ),
    ),
    Mutant(
        name="overtaken-emergency-moves-the-head",
        why="A rollback of an hour ago undoes the deployment that mended everything since.",
        file="serving/emergency.py",
        find="        version=by.version,\n        manifest_sha256=by.manifest_sha256,",
        replace="        version=record.version,\n        manifest_sha256=record.manifest_sha256,",
        tests=(
            _MANAGER + "test_an_emergency_that_others_overtook_is_recorded_once_though_a_crash_hides_that",
        ),
    ),
    Mutant(
        name="emergency-forgotten-while-the-store-is-read-only",
        why="The first look after an emergency rollback puts the bad version back, as the ledger still names it.",
        file="serving/wishes.py",
        find="            self.hold(self._emergency.waiting.record)\n            return None",
        replace="            pass",
        tests=(_MANAGER + "test_looks_that_cannot_record_an_emergency_do_not_undo_it",),
    ),
    Mutant(
        name="copies-dropped-before-new-ones-are-safe",
        why="A crash while the new version is copied leaves no version that the sidecar could start from.",
        file="serving/keeper.py",
        find="if complete and len(wanted) == 1 + self._keep_standby:",
        replace="if True:",
        tests=("serving/test_keeper.py::test_old_copies_go_when_the_new_ones_are_safe",),
    ),
)
