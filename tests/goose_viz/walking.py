"""Random walks over a session's operations, beside a list of what they should come to."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import goose_viz as gv
from goose_viz.errors import Stopped
from goose_viz.history import Edit, Feed

V = 61
TOKENS = st.lists(st.integers(0, V - 1), min_size=1, max_size=9)


def direct(session):
    """(state, logits) of where a session stands, without any session: calls and edits in order."""
    model, path, n = session.model, session.path, session.position
    state, logits = model.new_state(), None
    if session.initial is not None:
        state.assign(session.initial)
    at = 0
    for operation in path.operations(0, 0, path.stop) or []:
        if isinstance(operation, Edit):
            if operation.position > n:
                break
            scope = operation.what.scope(model.config)
            operation.what.do(state.edit().wkv[scope], operation.numbers)
        elif isinstance(operation, Feed):
            if at == n:
                break
            tokens = path.tokens(at, min(operation.stop, n))
            if operation.stop <= n:
                logits = model.forward(tokens, state, all_logits=True)[-1]
            else:  # inside a call: token by token
                for token in tokens:
                    logits = model.forward([token], state)
            at += len(tokens)
            for edit in path.lasting(at - 1):  # made again behind every token
                scope = edit.what.scope(model.config)
                edit.what.do(state.edit().wkv[scope], edit.numbers)
    assert at == n
    return state, logits


class Walk(RuleBasedStateMachine):
    """Operations in any order; ``way`` is what the current branch should hold up to the cursor."""

    model: gv.Model
    path: Path

    @initialize(
        seed=st.integers(0, 9), budget=st.sampled_from([0, 40_000, 1 << 20]), begun=st.booleans()
    )
    def begin(self, seed, budget, begun):
        initial = None
        if begun:  # with a memory that is not empty
            initial = self.model.new_state()
            self.model.forward([5, 7, 11], initial)
        self.session = gv.Session(
            self.model, gv.Sampler(seed=seed), history_bytes=budget, frames_bytes=budget,
            initial=initial,
        )  # fmt: skip
        self.tokens, self.edits = [], []  # up to the end of the branch; (position, edit)
        self.position = 0
        self.others = []

    # -- what one can do ---------------------------------------------------------------------------

    @rule(tokens=TOKENS)
    def feed(self, tokens):
        self._leave()
        self.session.feed(tokens)
        self.tokens += tokens
        self.position += len(tokens)

    @precondition(lambda self: self.position > 0)
    @rule(n=st.integers(1, 4), anew=st.booleans())
    def step(self, n, anew):
        for _ in range(n):
            if anew or self.position == len(self.tokens):
                self._leave()
                self.tokens.append(self.session.step(anew=anew).token)
            else:
                assert self.session.step().token == self.tokens[self.position]
            self.position += 1

    @rule(share=st.floats(0, 1))
    def goto(self, share):
        self.position = round(share * len(self.tokens))
        self.session.goto(self.position)

    @precondition(lambda self: self.position > 0)
    @rule()
    def back(self):
        self.position -= 1
        self.session.back()

    @precondition(lambda self: self.tokens)
    @rule(share=st.floats(0, 1), token=st.integers(0, V - 1))
    def branch(self, share, token):
        position = round(share * (len(self.tokens) - 1))
        self.goto(position / len(self.tokens))
        position = self.position
        self._leave()
        self.session.branch(position, token)
        self.tokens.append(token)
        self.position += 1

    @rule(which=st.integers(0, 20))
    def switch(self, which):
        branches = self.session.branches
        index = which % len(branches)
        self.session.switch(index)
        self.tokens = self.session.path.tokens(0, self.session.path.stop)
        self.edits = [(e.position, e.what) for e in self.session.path.edits(len(self.tokens))]
        self.position = len(self.tokens)

    @rule(
        edit=st.one_of(
            st.builds(gv.Scale, st.sampled_from([0.5, -1.0, 1.5]), st.sampled_from([None, 0, 1])),
            st.builds(gv.Zero, st.sampled_from([None, 0, 1]), st.sampled_from([None, 0, 3])),
            st.builds(gv.Noise, st.just(0.5), st.integers(0, 3)),
        )
    )
    def edit(self, edit):
        self._leave()
        self.session.apply(edit)
        self.edits.append((self.position, edit))

    @precondition(lambda self: self.position > 1)
    @rule(share=st.floats(0, 0.999), forget=st.booleans())
    def take_out(self, share, forget):
        token = int(share * self.position)
        what = gv.Forget(token) if forget else gv.Replace(token, token + 1, (3,))
        try:
            self.session.apply(what)
        except gv.GooseError:
            return  # it was taken out before, or another replacement cuts through it
        self._leave()
        self.edits.append((self.position, what))

    @rule(
        head=st.sampled_from([None, 2]), span=st.one_of(st.none(), st.integers(1, 5)),
        steer=st.booleans(),
    )  # fmt: skip
    def last(self, head, span, steer):
        """An edit that is made again behind every token."""
        until = None if span is None else self.position + span
        what = gv.Mute(until, 1, head)
        if steer:
            change = np.random.default_rng(7).standard_normal(self.session.state.wkv.shape) / 50
            what = gv.Steer(change, 1.0, until, None, head)
        self._leave()
        self.session.apply(what)
        self.edits.append((self.position, what))

    @rule(all_of_it=st.booleans())
    def leave_and_come_back(self, all_of_it):
        """As another session: opened from a file, or a twin with the current branch alone."""
        if all_of_it:
            gv.save_session(self.path, self.session)
            self.session = gv.load_session(self.path).open(self.model)
        else:
            here = self.position
            self.session = self.session.twin()
            self.session.goto(here)

    @rule(again=st.booleans())
    def undo(self, again):
        try:
            self.session.undo()
        except gv.GooseError:
            return
        if again:
            self.session.redo()
        self._look()

    @precondition(lambda self: self.tokens)
    @rule(share=st.floats(0, 1), asked=st.integers(0, 3))
    def give_up_on_the_way(self, share, asked):
        """Going elsewhere is given up half-way: nothing has happened."""
        count = iter(range(asked))

        def keep_going(*_):
            return next(count, None) is not None

        with contextlib.suppress(Stopped):
            self.session.goto(round(share * len(self.tokens)), keep_going)
        self.position = self.session.position

    # -- what has to hold --------------------------------------------------------------------------

    @invariant()
    def it_stands_where_it_should(self):
        if not hasattr(self, "session"):
            return
        session = self.session
        assert session.position == self.position
        assert session.path.tokens(0, session.path.stop) == self.tokens
        assert [(e.position, e.what.recorded()) for e in session.path.edits(len(self.tokens))] == [
            (p, e.recorded()) for p, e in self.edits
        ]

    @invariant()
    def bit_for_bit(self):
        if not hasattr(self, "session"):
            return
        state, logits = direct(self.session)
        for name, array in state.arrays().items():
            assert np.array_equal(self.session.state.arrays()[name], array, equal_nan=True), name
        if self.position:
            assert np.array_equal(self.session.logits, logits, equal_nan=True)

    def _leave(self):
        """What stands behind the cursor is another branch's from now on."""
        del self.tokens[self.position :]
        self.edits = [(p, e) for p, e in self.edits if p <= self.position]

    def _look(self):
        """Take the session's word; its bits are looked at all the same."""
        session = self.session
        self.position = session.position
        self.tokens = session.path.tokens(0, session.path.stop)
        self.edits = [(e.position, e.what) for e in session.path.edits(len(self.tokens))]
