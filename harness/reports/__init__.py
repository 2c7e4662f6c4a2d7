"""What people read: boards, reports, tables and pages of results and judges. No torch here."""
