"""`relit demo`: an agent that audits licences goes on working while its processes are killed."""
