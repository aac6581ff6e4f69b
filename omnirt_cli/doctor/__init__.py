"""`omnirt doctor`: this machine and every configured model, looked at by the same checks that a run makes."""
