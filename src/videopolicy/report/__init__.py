"""What a run folder holds, as a page, with films and predicted futures for it.

May import `evaluation` and below; `running` writes the page, `compare` reads run folders and replays episodes through
it.
"""

from videopolicy.report.current import report_facts
from videopolicy.report.made import is_complete, note_complete
from videopolicy.report.page import write_report
from videopolicy.report.predictions import make_predictions
from videopolicy.report.videos import make_videos

__all__ = ["is_complete", "make_predictions", "make_videos", "note_complete", "report_facts", "write_report"]
