"""What a training step costs, beside the published form, other encoders and the machine's limit.

One *step* is zero_grad, forward, cross entropy over all rows, backward and Adam, full batch, in
float32. One *case* is a method at a number of rows N.

**Design.** Every case lives in a child process of its own, started fresh (``worker``). The children
of one size stay alive together and take one step each, in turn, round after round, as the parent
asks them to through a pipe (``turns``): so noise falls on all alike, and the ratio of two methods
is the median of their ratios by round. In a training a step follows a step: so a short step is
taken twice in a turn, and the second one counts. The machine's own limit (``limit``) is one more
child that takes its turns. A child that waits holds its inputs, its model and Adam's state, but no
activation. Where even that would not fit beside the largest step of all, the methods of one size
are split into groups that do; a method and its published form stay together.

The peak of a process is read by the process itself: resident memory before the first step, with
inputs, model and libraries in place, is the *base*; the highest afterwards less the base is the
*extra*. What a process took over from its parent at birth does not count (``memory``). A case
that is predicted, from smaller sizes of the same method, to need more than 80 % of the memory that
is available is not run, and its row says so.

Process settings are the same for all (``cases.ENVIRONMENT``), set before torch is loaded.
"""
