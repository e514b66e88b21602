"""What crosses between the server and the clients, and how replies are checked and averaged."""
