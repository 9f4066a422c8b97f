"""Model versions that answer beside the champion: a canary a share of the appeals, a shadow unseen."""
