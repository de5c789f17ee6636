"""Changes of the workflows that open ones cannot follow: each goes on as it began.

``workflow.patched`` takes the new way in histories that begin with it, or reach it for the first
time. The texts are in histories: none is ever changed. One may go, with the old way, once no
history without it is open any more; the recorded histories of tests/histories go with it.
"""

#: The row of a success is written by its attempt; before, the workflow wrote each row.
OWN_ROWS = "attempts write their rows"
#: So are the rows of what is caught up.
CAUGHT_UP_ROWS = "attempts write the rows of what is caught up"
#: An occurrence that ran, or has its row, is remembered; a late change could bring it twice.
ONE_TURN = "one turn for each occurrence"
#: So is one that is caught up after a pause.
CAUGHT_UP_ONCE = "what is caught up has not had its turn"
#: A thousand occurrences of an outage may wait; before, a hundred.
MORE_CAUGHT_UP = "as many wait of an outage as of a pause"
#: Rows of a long backlog were handed over while they were being written.
ONE_AT_A_TIME = "rows are written or handed over, not both"
#: What a pause calls back is waited for before the pause ends.
RECALLED_FIRST = "what is called back by a pause is heard of first"
#: A run that its worker no longer hears of is not waited for.
GIVE_UP_SILENT = "silent runs are given up"
#: A run that had begun when it was called back is made again.
CUT_OFF = "a run that is called back too late is made again"
#: A task that is deleted and registered again in the lead of a run has that run.
COMES_BACK = "a run that is cancelled comes back with its task"
#: Runs beside others get workflows of their own once the history is long.
APART = "a run that begins beside others in a long history is made apart"
#: At most so many bytes of orders wait.
LITTLE_ROOM = "what may wait is bounded"
#: A history ends by its bytes, too; before, by its events alone.
IN_BYTES = "a history is too long by its bytes, too"
#: At most sixteen runs are sent off in a workflow task.
IN_BATCHES = "runs are sent off in batches"
#: A change that was made later is taken though its number is not higher: Postgres had lost some.
LATER_CHANGES = "a later change is newer, whatever its number"
#: Upkeep does the rounds of a minute in one activity; before, each was an activity of its own.
IN_STRETCHES = "upkeep in stretches"
